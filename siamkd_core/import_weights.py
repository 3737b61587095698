"""Public checkpoints as models of this library: names, shapes and conventions, mapped and checked.

All of :data:`PROJECTS` take pixels 0..255 without normalisation. What
differs from ours, and is changed so that the function stays the same:

- siamfc-pytorch reads RGB, we BGR (as DaSiamRPN and pysot do): the input channels of the first
  convolution turn round.
- The BatchNorms of DaSiamRPN and pysot have an epsilon of 1e-5, our AlexNet's 1e-6: the difference
  goes into the running variance. A ResNet's is the same.
- NanoTrack V3 gives distances to the sides of a box on cells of 16 px, we deltas on cells of 8 px
  (:class:`siamkd_core.ban_head.BanHead`).
- Our up-channel correlation is divided by the square root of what it sums
  (:class:`siamkd_core.siamrpn.UpChannelHead`): the exemplar's convolutions are multiplied by it.

Crops are cut at whole pixels there and at fractions here: boxes agree to about a pixel.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from siamkd_core.alexnet import NORM_EPS
from siamkd_core.errors import ModelFileError
from siamkd_core.import_layouts import BLOCKS, LAYOUTS, Layout, out_channels, tensor_names
from siamkd_core.import_nanotrack import nanotrack_card, nanotrack_names, nanotrack_weights
from siamkd_core.import_resnet import STEM, resnet_card, resnet_names
from siamkd_core.modelfile import ModelCard, build_network, check_weights, new_card, save_model
from siamkd_core.recipe import check_model_name
from siamkd_core.siamfc import count_parameters
from siamkd_core.siamrpn import HeadConfig
from siamkd_core.tracker_config import RpnTrackerConfig

PROJECTS = {
    "siamfc-pytorch": "huanglianghua/siamfc-pytorch",
    "dasiamrpn": "foolwood/DaSiamRPN",
    "pysot": "STVIR/pysot",
    "nanotrack": "HonglinChu/NanoTrack",
}
"""Whose checkpoints are known, by the name of their layout."""
EPS = 1e-5
"""Of the BatchNorms of the SiamRPN layouts, PyTorch's default."""

TRACKERS = {
    "vot": RpnTrackerConfig(penalty_k=0.04, window=0.44, size_rate=0.45),
    "otb": RpnTrackerConfig(penalty_k=0.22, window=0.40, size_rate=0.30),
    "big": RpnTrackerConfig(penalty_k=0.055, window=0.42, size_rate=0.295),
    "pysot": RpnTrackerConfig(search_size=287, penalty_k=0.16, window=0.40, size_rate=0.30),
    "pysot-r50": RpnTrackerConfig(search_size=319, penalty_k=0.05, window=0.42, size_rate=0.38),
    "nanotrack": RpnTrackerConfig(search_size=287, penalty_k=0.138, window=0.455, size_rate=0.348),
}
"""Tracker parameters that were published with the checkpoints. The ResNet's search region was 255
px, of which pysot used 25x25 cells; with 319 px we have as many. NanoTrack's was too, with 15x15
cells of 16 px: with our 287 px a target is found 80 px away, and not 112, which would cost 351."""


def import_weights(
    path: str | Path, layout: str, name: str, output: str | Path, tracker: str = ""
) -> Path:
    """Write a public checkpoint as a model file with a card and return its path.

    Args:
        path: what ``torch.save`` wrote: a state dict, or a dict that holds one as ``state_dict`` or
            ``model``; or a ``.safetensors`` file. Nothing in it is executed.
        layout: one of PROJECTS.
        name: of the model.
        output: folder.
        tracker: one of TRACKERS, for a siamrpn; empty for our defaults.

    Raises:
        ModelFileError: not such a file; lists the tensors that are missing, extra or misshapen.
        ConfigError: a name that no file can have.
    """
    check_model_name(name)
    path = Path(path)
    weights = read_checkpoint(path)
    card, mapped = convert(weights, layout, name, str(path))
    if tracker:
        card = replace(card, tracker=TRACKERS[tracker])
    network = build_network(card)
    network.load_state_dict(mapped, strict=False)  # num_batches_tracked alone is left out
    training = {
        "imported": {
            "file": path.name,
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            "layout": layout,
            "project": PROJECTS[layout],
        }
    }
    card = replace(card, parameters=count_parameters(network), training=training)
    return save_model(network, card, output)


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """The state dict in a file of ``torch.save`` or safetensors, without the prefix of
    DataParallel.

    Raises:
        ModelFileError: no such file, or there is no state dict in it.
    """
    try:
        found: Any
        if path.suffix == ".safetensors":
            found = load_file(path)
        else:
            found = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise ModelFileError(f"cannot read {path}: {error.strerror or error}") from error
    except SafetensorError as error:
        raise ModelFileError(f"{path} is not a safetensors file: {error}") from error
    except Exception as error:  # a broken pickle raises anything: KeyError, EOFError ...
        raise ModelFileError(
            f"{path} is no file of tensors alone: {repr(error).splitlines()[0][:200]}; one "
            "of other objects must be saved again as net.state_dict() where it came from"
        ) from error
    for key in ("state_dict", "model"):
        if isinstance(found, Mapping) and isinstance(found.get(key), Mapping):
            found = found[key]
    if not isinstance(found, Mapping) or not any(isinstance(v, Tensor) for v in found.values()):
        raise ModelFileError(f"{path} holds no state dict")
    return {
        str(key).removeprefix("module."): value
        for key, value in found.items()
        if isinstance(value, Tensor) and not str(key).endswith("num_batches_tracked")
    }


def convert(
    weights: Mapping[str, Tensor], layout: str, name: str, where: str
) -> tuple[ModelCard, dict[str, Tensor]]:
    """A card, and the tensors under our names and in our conventions.

    Widths and head are read from the shapes, so any width of a layout is taken.

    Raises:
        ModelFileError: lists the tensors that are missing, extra or misshapen, in the names of the
            file.
    """
    if layout == "nanotrack":
        weights = nanotrack_weights(weights)
        card = nanotrack_card(weights, name, where)
        return card, _renamed(weights, card, nanotrack_names, where)
    if layout == "pysot" and STEM in weights:
        card = resnet_card(weights, name, where)
        return card, _renamed(weights, card, resnet_names, where)
    chosen = _spelling(weights, layout, where)
    kind = _head_kind(weights, chosen)
    names = tensor_names(chosen, kind)
    card = _card(weights, chosen, kind, name, where)
    theirs = {ours: key for key, ours in names.items()}
    # compared in the names of the file, which are those its owner knows
    renamed = {names.get(key, key): value for key, value in weights.items()}
    check_weights(build_network(card), renamed, where, theirs)
    mapped = {ours: weights[key].float() for key, ours in names.items()}
    if chosen.family == "siamfc":
        first = f"backbone.{BLOCKS[0]}.0.weight"
        mapped[first] = mapped[first].flip(1)
        return card, mapped
    for key in mapped:
        if key.startswith("backbone.") and key.endswith("running_var"):
            mapped[key] = mapped[key] + (EPS - NORM_EPS)
        if kind == "upchannel" and key.startswith("head.exemplar_"):
            assert card.head is not None
            mapped[key] = mapped[key] * (16 * card.head.width) ** 0.5
    return card, mapped


def _renamed(
    weights: Mapping[str, Tensor],
    card: ModelCard,
    name: Callable[[Iterable[str]], dict[str, str]],
    where: str,
) -> dict[str, Tensor]:
    """Of a checkpoint whose numbers are ours as they are."""
    network = build_network(card)
    names = name(network.state_dict())
    renamed = {names.get(key, key): value for key, value in weights.items()}
    check_weights(network, renamed, where, {ours: key for key, ours in names.items()})
    return {ours: value.float() for ours, value in renamed.items()}


def _spelling(weights: Mapping[str, Tensor], layout: str, where: str) -> Layout:
    for chosen in LAYOUTS[layout]:
        if f"{chosen.convolutions[0]}.weight" in weights:
            return chosen
    wanted = " or ".join(f"{one.convolutions[0]}.weight" for one in LAYOUTS[layout])
    raise ModelFileError(
        f"{where} is not of the layout {layout}: it has no {wanted}, but "
        f"{', '.join(list(weights)[:4])} ...; the layouts are {', '.join(PROJECTS)}"
    )


def _head_kind(weights: Mapping[str, Tensor], layout: Layout) -> str:
    """The kind of head most of whose names are there; "" in a family without one."""
    shares = {
        kind: sum(f"{key}.weight" in weights for key in names) / len(names)
        for kind, names in layout.heads.items()
    }
    return max(shares, key=lambda kind: shares[kind]) if shares else ""


def _card(
    weights: Mapping[str, Tensor], layout: Layout, kind: str, name: str, where: str
) -> ModelCard:
    def outputs(module: str) -> int:
        return out_channels(weights, where, f"{module}.weight")

    widths = tuple(outputs(module) for module in layout.convolutions)
    if layout.family == "siamfc":
        return new_card(name, layout.family, widths)
    theirs = {ours: module for module, ours in layout.heads[kind].items()}
    width = outputs(theirs["search_score" if kind == "upchannel" else "score.search.0"])
    return new_card(name, layout.family, widths, head=HeadConfig(kind, width))
