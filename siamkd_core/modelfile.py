"""A model file: safetensors with the weights, and a JSON card of the same name beside it.

Nothing in a model file is executed. Loading checks the hash against the card and every tensor's
name and shape against the architecture that the card names.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import nn

from siamkd_core.architectures import architecture
from siamkd_core.config import from_mapping, to_mapping
from siamkd_core.errors import ConfigError, ModelFileError
from siamkd_core.network import SiameseNetwork
from siamkd_core.siamrpn import HeadConfig
from siamkd_core.tracker_config import RpnTrackerConfig, ScoreConfig, TrackerConfig

SHIPPED = Path(__file__).parent / "models"
PREPROCESSING = {"channels": "BGR", "range": "0..255", "padding": "mean colour", "context": 0.5}


@dataclass(frozen=True)
class ModelCard:
    """What is known of a model file.

    Attributes:
        name: of the model, the file's stem.
        architecture: family, one of :data:`siamkd_core.architectures.ARCHITECTURES`.
        widths: channel widths of the backbone.
        parameters: number of learnable values.
        backbone: one of the family's, :data:`siamkd_core.siamfc.BACKBONES` or
            :data:`siamkd_core.siamrpn.BACKBONES`.
        head: of a siamrpn; None in other families.
        preprocessing: what the network is fed with.
        tracker: parameters of the tracker, chosen with this model; of its family's class.
        score: how what was found becomes a probability; None: not calibrated yet.
        training: data, recipe, seed, number of pairs, commit.
        measured: scores, each with the command that made it.
        sha256: of the safetensors file.
    """

    name: str
    architecture: str
    widths: tuple[int, ...]
    parameters: int
    backbone: str = "alexnet"
    head: HeadConfig | None = None
    sha256: str = ""
    preprocessing: dict[str, Any] = field(default_factory=lambda: dict(PREPROCESSING))
    tracker: TrackerConfig | RpnTrackerConfig = field(default_factory=TrackerConfig)
    score: ScoreConfig | None = None
    training: dict[str, Any] = field(default_factory=dict)
    measured: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        wanted = architecture(self.architecture).tracker
        if not isinstance(self.tracker, wanted):
            raise ConfigError(
                f"the tracker's parameters are {type(self.tracker).__name__}, a "
                f"{self.architecture} has {wanted.__name__}"
            )


def new_card(
    name: str,
    family: str,
    widths: tuple[int, ...],
    backbone: str = "alexnet",
    head: HeadConfig | None = None,
) -> ModelCard:
    """A card with its family's default tracker parameters; ``parameters`` is 0 until a network of
    it is counted.

    Raises:
        ConfigError: no such family.
    """
    tracker = architecture(family).tracker()
    return ModelCard(name, family, widths, 0, backbone, head, tracker=tracker)


def find_model(model: str | Path) -> Path:
    """Path of a shipped model by name, or of a ``.safetensors`` file.

    Raises:
        ModelFileError: neither; lists the shipped names.
    """
    path = Path(model)
    if path.suffix != ".safetensors" and len(path.parts) == 1:
        path = SHIPPED / f"{model}.safetensors"
    if not path.is_file():
        names = ", ".join(sorted(p.stem for p in SHIPPED.glob("*.safetensors"))) or "none"
        raise ModelFileError(
            f"no model {str(model)!r}; give the path of a .safetensors file or one of: {names}"
        )
    return path


def tell_apart(models: Sequence[str | Path]) -> list[str]:
    """A short name for each model: its file's, with as many of the folders above it as it takes to
    be no other file's.

    Raises:
        ModelFileError: no such model.
    """
    paths = [find_model(model).absolute().with_suffix("") for model in models]
    return [_tell_from(path, {other for other in paths if other != path}) for path in paths]


def _tell_from(path: Path, others: set[Path]) -> str:
    """The shortest end of ``path`` that is no end of another."""
    count = 1
    while any(other.parts[-count:] == path.parts[-count:] for other in others):
        count += 1
    return "/".join(path.parts[-count:])


def build_network(card: ModelCard) -> SiameseNetwork:
    """The network a card describes, with fresh weights.

    Raises:
        ModelFileError: an architecture, backbone, widths or a head that do not exist.
    """
    try:
        return architecture(card.architecture).build(card.widths, card.backbone, card.head)
    except (ValueError, ConfigError) as error:
        raise ModelFileError(f"{card.name}: {error}") from error


def network_with(card: ModelCard, weights: Mapping[str, torch.Tensor]) -> SiameseNetwork:
    """A network of its own with a copy of these weights; what is no part of the architecture, an
    adapter that only training needs, stays behind."""
    network = build_network(card)
    network.load_state_dict({name: weights[name] for name in network.state_dict()})
    return network


def check_backbone_takes(card: ModelCard, size: int, key: str = "pairs.search_size") -> None:
    """Raise ConfigError unless the network takes search regions of this many pixels; ``key`` is
    what sets them."""
    # the backbones of siamkd_core.pyramid
    aligned = card.backbone.startswith("efficientnet") or (
        card.architecture == "siamfc" and card.backbone.startswith("mobilenet")
    )
    if aligned and size % 8 != 7:
        raise ConfigError(
            f"{card.name} has the backbone {card.backbone}, which takes search regions of 8k + 7 "
            f"pixels only: set {key} to {size // 8 * 8 + 7}, not {size}"
        )


def save_model(network: nn.Module, card: ModelCard, folder: str | Path) -> Path:
    """Write ``<name>.safetensors`` and ``<name>.json`` and return the path of the former.

    The JSON is written last: a model without a card is no model, so a write that breaks off never
    leaves a pair that does not belong together unnoticed (the hash would differ).
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    # num_batches_tracked only counts training steps; nothing reads it here
    weights = {
        k: v.detach().cpu().contiguous()
        for k, v in network.state_dict().items()
        if not k.endswith("num_batches_tracked")
    }
    data = save_tensors(weights)
    path = folder / f"{card.name}.safetensors"
    write_atomically(path, data)
    _write_card(replace(card, sha256=hashlib.sha256(data).hexdigest()), path)
    return path


def write_card(card: ModelCard, path: str | Path) -> None:
    """Replace the card of the model file ``path``.

    Raises:
        ModelFileError: it cannot be written; the card that is there stays.
    """
    try:
        _write_card(card, path)
    except OSError as error:
        raise _unwritable(Path(path), error) from error


def _write_card(card: ModelCard, path: str | Path) -> None:
    text = json.dumps(to_mapping(card), indent=2) + "\n"
    write_atomically(Path(path).with_suffix(".json"), text.encode())


def check_card_writable(path: str | Path) -> None:
    """Before hours of work whose result the card of the model file ``path`` is to hold.

    Raises:
        ModelFileError: the card cannot be replaced.
    """
    try:
        with tempfile.TemporaryFile(dir=Path(path).parent):
            pass
    except OSError as error:
        raise _unwritable(Path(path), error) from error


def _unwritable(model: Path, error: OSError) -> ModelFileError:
    return ModelFileError(
        f"the card {model.with_suffix('.json')} cannot be written: {error.strerror or error}; "
        "make room there, or copy both files of the model to a folder that is yours and give that "
        "path"
    )


def read_card(path: str | Path) -> ModelCard:
    """Read the card beside the model file ``path``.

    Raises:
        ModelFileError: no card, not JSON, or unknown and missing keys.
    """
    file = Path(path).with_suffix(".json")
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelFileError(
            f"{path} has no card: {error.strerror} ({file}); a model is two files, "
            ".safetensors and .json of the same name"
        ) from error
    except ValueError as error:
        raise ModelFileError(f"{file} is not JSON: {error}") from error
    try:
        return _card(values, str(file))
    except ConfigError as error:
        raise ModelFileError(str(error)) from error


def _card(values: Any, where: str) -> ModelCard:
    """The architecture says which class the tracker's parameters are of."""
    if not isinstance(values, dict) or not isinstance(values.get("architecture"), str):
        raise ConfigError(f"{where}: expected a card with its architecture")
    try:
        family = architecture(values["architecture"])
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error
    tracker = from_mapping(family.tracker, values.get("tracker", {}), f"{where}: tracker")
    return from_mapping(ModelCard, {**values, "tracker": tracker}, where)


def load_model(model: str | Path) -> tuple[SiameseNetwork, ModelCard]:
    """Load a network in eval mode on the CPU, float32, with its card.

    Raises:
        ModelFileError: no such model, no card, wrong hash, or tensors that do not fit; names them.
    """
    path = find_model(model)
    card = read_card(path)
    data = path.read_bytes()
    found = hashlib.sha256(data).hexdigest()
    if found != card.sha256:
        raise ModelFileError(
            f"{path} is not the file its card describes: sha256 {found[:12]}..., the card says "
            f"{card.sha256[:12]}...; copy both files again"
        )
    try:
        weights = load_tensors(data)
    except SafetensorError as error:
        raise ModelFileError(f"{path} is not a safetensors file: {error}") from error
    network = build_network(card)
    check_weights(network, weights, str(path))
    network.load_state_dict(weights, strict=False)
    return network.float().eval(), card


def check_weights(
    network: nn.Module,
    weights: Mapping[str, torch.Tensor],
    where: str,
    called: Mapping[str, str] | None = None,
) -> None:
    """Compare names and shapes.

    Args:
        network: that the weights are for.
        weights: by the network's names.
        where: the file named in the error.
        called: what the file calls a tensor, where that differs.

    Raises:
        ModelFileError: lists the tensors that are missing, extra or of another shape.
    """
    wanted = {
        k: tuple(v.shape)
        for k, v in network.state_dict().items()
        if not k.endswith("num_batches_tracked")
    }
    name = {k: (called or {}).get(k, k) for k in (*wanted, *weights)}
    problems = [f"missing {name[k]} {s}" for k, s in wanted.items() if k not in weights]
    problems += [f"extra {name[k]} {tuple(v.shape)}" for k, v in weights.items() if k not in wanted]
    problems += [
        f"{name[k]} is {tuple(weights[k].shape)}, the card's architecture has {s}"
        for k, s in wanted.items()
        if k in weights and tuple(weights[k].shape) != s
    ]
    if problems:
        more = f" and {len(problems) - 8} more" if len(problems) > 8 else ""
        raise ModelFileError(f"{where} does not fit its card: {'; '.join(problems[:8])}{more}")


def write_atomically(path: Path, data: bytes | memoryview) -> None:
    """Write to a temporary name, then rename: a reader sees the old file or the new, no half."""
    temporary = path.with_name(path.name + ".part")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError:
        # a full disk has no room for a part of a file that nobody reads
        temporary.unlink(missing_ok=True)
        raise
