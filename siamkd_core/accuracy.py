"""How well a model tracks, as an evaluation left it: in the model's card, or in a folder."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from siamkd_core.errors import DataError
from siamkd_core.evaluate import ResultFolder
from siamkd_core.modelfile import ModelCard


@dataclass(frozen=True)
class Accuracy:
    """Means over the sequences of an evaluation; see :mod:`siamkd_core.report`."""

    auc: float
    mean_iou: float


def recorded(card: ModelCard, name: str) -> Accuracy | None:
    """What ``siamkd evaluate --record NAME`` wrote into a card; None if it did not.

    Raises:
        DataError: something else is written there.
    """
    found = card.measured.get(name)
    if found is None:
        return None
    try:
        return Accuracy(float(found["auc"]), float(found["mean_iou"]))
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"measured.{name} in the card of {card.name} is no evaluation") from error


def reported(folder: Path, card: ModelCard) -> Accuracy | None:
    """What ``siamkd evaluate --output FOLDER`` wrote of a model; None if it did not.

    Raises:
        DataError: no such folder, a table of another kind, or that of another model of its name.
    """
    if not folder.is_dir():
        raise DataError(f"there is no folder {folder} of `siamkd evaluate --output`")
    path = folder / f"{card.name}.csv"
    if not path.is_file():
        return None
    try:
        with path.open(newline="", encoding="utf-8") as file:
            *rows, mean = csv.DictReader(file)  # the last row is the mean
        names = [row["sequence"] for row in rows]
        found = Accuracy(float(mean["auc"]), float(mean["mean_iou"]))
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path} is no table of `siamkd evaluate`") from error
    ran = ResultFolder(folder / card.name, {}).models()
    for other in {ran.get(name, "") for name in names} - {card.sha256}:
        whose = f"of the model with the sha256 {other[:12]}..." if other else "of an unknown model"
        raise DataError(
            f"{path} is {whose}, not of this {card.name}, {card.sha256[:12]}...: evaluate this one "
            "with `siamkd evaluate` into a folder of its own, and name that"
        )
    return found
