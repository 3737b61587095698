"""The folder of a run: what was asked for, where it ran, and its figures as text and pictures.

config.yaml       the recipe with every default filled in
environment.json  one entry per start: versions, device, commit, command
metrics.csv       one row per epoch
curves.png        the same, drawn
tensorboard/      the same, and the loss between the epochs
checkpoint.pt     what the run goes on from
best.pt           the weights of the best epoch so far
<name>.safetensors, <name>.json   the model, at the end
"""

from __future__ import annotations

import csv
import io
import json
import platform
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from siamkd_core import __version__
from siamkd_core.checkpoint import RunState, save_best, save_checkpoint
from siamkd_core.config import to_mapping
from siamkd_core.engine_config import EngineConfig
from siamkd_core.errors import SiamkdError
from siamkd_core.modelfile import write_atomically

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

Row = Mapping[str, float]


class RunFolder:
    """Writes the files above, all but the model.

    Args:
        path: of the folder; created where there is none.
        config: of the run.
        setting: what else must stay the same in the run, see
            :func:`siamkd_core.checkpoint.load_checkpoint`.
        facts: of this start, beside the versions.
        run: where the run goes on; later curves of an earlier start are dropped.

    Raises:
        SiamkdError: the folder cannot be written, or TensorBoard is not installed.
    """

    def __init__(
        self,
        path: Path,
        config: EngineConfig,
        setting: Mapping[str, str],
        facts: Mapping[str, Any],
        run: RunState,
    ) -> None:
        self.path, self.config, self.setting, self.saved = path, config, setting, run.step
        writer_of = _tensorboard()
        with self.writing():
            path.mkdir(parents=True, exist_ok=True)
            text = yaml.safe_dump(to_mapping(config), sort_keys=False)
            write_atomically(path / "config.yaml", text.encode())
            file = path / "environment.json"
            starts = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else []
            starts.append({"step": run.step, **environment(), **facts})
            write_atomically(file, (json.dumps(starts, indent=2) + "\n").encode())
            self._writer: SummaryWriter = writer_of(
                str(path / "tensorboard"), purge_step=run.step + 1
            )
            self._draw(run.history)
            if run.best:
                save_best(path, config, run.best)

    def log(self, values: Row, step: int) -> None:
        """Points of the TensorBoard curves after so many steps."""
        with self.writing():
            for name, value in values.items():
                self._writer.add_scalar(name, value, step)

    def save(self, run: RunState, learner: Mapping[str, Any]) -> None:
        """Replace the checkpoint."""
        with self.writing():
            save_checkpoint(self.path, self.config, self.setting, run, learner)
        self.saved = run.step

    def finish_epoch(self, run: RunState, learner: Mapping[str, Any], improved: bool) -> None:
        """Replace checkpoint, table and drawing; the best weights where some are better."""
        self.save(run, learner)
        row = run.history[-1]
        self.log({key: row[key] for key in row if key not in ("epoch", "step")}, run.step)
        with self.writing():
            if improved:
                save_best(self.path, self.config, run.best)
            self._draw(run.history)
            self._writer.flush()

    def close(self) -> None:
        """Finish the TensorBoard file."""
        with self.writing():
            self._writer.close()

    def _draw(self, history: Sequence[Row]) -> None:
        if history:
            write_atomically(self.path / "metrics.csv", table(history).encode())
            write_atomically(self.path / "curves.png", curves(history))

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Turn an OSError into one that says what is safe and what to do."""
        try:
            yield
        except OSError as error:
            kept = f"the checkpoint of step {self.saved} is intact: " if self.saved else ""
            raise SiamkdError(
                f"cannot write to {self.path}: {error.strerror or error}; {kept}make room, and run "
                "the same command again to go on"
            ) from error


def environment() -> dict[str, Any]:
    """Versions and the command of this process."""
    import cv2
    import numpy as np
    import torch

    return {
        "command": shlex.join(sys.argv),
        "siamkd": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "opencv": cv2.__version__,
        "platform": platform.platform(),
        "threads": torch.get_num_threads(),
    }


def table(history: Sequence[Row]) -> str:
    """CSV with a header; a figure that an epoch does not have is left empty."""
    columns = list(dict.fromkeys(name for row in history for name in row))
    out = io.StringIO()
    writer = csv.DictWriter(out, columns, lineterminator="\n")
    writer.writeheader()
    for row in history:
        writer.writerow({name: _short(value) for name, value in row.items()})
    return out.getvalue()


def curves(history: Sequence[Row]) -> bytes:
    """PNG with a panel for each kind of figure (``loss/epoch`` is of the kind loss) by epoch."""
    from matplotlib.figure import Figure

    kinds: dict[str, list[str]] = {}
    for name in dict.fromkeys(name for row in history for name in row):
        if name not in ("epoch", "step", "seconds", "pairs_per_second"):
            kinds.setdefault(name.split("/")[0], []).append(name)
    figure = Figure(figsize=(4.2 * len(kinds), 3.6), layout="constrained")
    for place, (kind, names) in enumerate(kinds.items(), 1):
        axes = figure.add_subplot(1, len(kinds), place)
        for name in names:
            points = [(row["epoch"], row[name]) for row in history if name in row]
            label = name.removeprefix(f"{kind}/")
            axes.plot(*zip(*points, strict=True), marker=".", label=label)
        axes.set_title(kind)
        axes.set_xlabel("epoch")
        axes.grid(alpha=0.3)
        if kind == "lr":
            axes.set_yscale("log")
        else:
            axes.legend()
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=110)
    return out.getvalue()


def _short(value: float) -> str:
    return f"{value:.9g}"


def _tensorboard() -> type[SummaryWriter]:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise SiamkdError(
            "training needs TensorBoard: pip install tensorboard (or this package with [train])"
        ) from error
    return SummaryWriter
