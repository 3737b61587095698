"""Names of the tensors of NanoTrack V3 (HonglinChu/NanoTrack), and ours.

Read from the names and shapes of its published parameters and from the graphs of its published
ONNX files. Of the published names those of its neck are left out: nothing there runs it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import partial

from torch import Tensor

from siamkd_core.import_layouts import out_channels
from siamkd_core.mobilenet import BLOCKS
from siamkd_core.modelfile import ModelCard, new_card
from siamkd_core.siamrpn import HeadConfig

_STEM = "backbone.features.0.0.weight"
_SCORES = "ban_head.cls_logits.0"
_UNUSED = "neck."
_HEAD = {
    "pixels.exemplar": "corr_pw_{}.conv_kernel",
    "pixels.search": "corr_pw_{}.conv_search",
    "pixels.attention.1": "corr_pw_{}.CA_layer.fc1",
    "pixels.attention.3": "corr_pw_{}.CA_layer.fc2",
    "pixels.gather": "corr_pw_{}.conv",
    "channels.exemplar": "corr_dw_{}.conv_kernel",
    "channels.search": "corr_dw_{}.conv_search",
    "merge": "down_{}.0",
}
_BRANCH = {
    "score": ("cls", "cls_tower", _SCORES),
    "box": ("reg", "bbox_tower", "ban_head.bbox_pred.0"),
}


def nanotrack_card(weights: Mapping[str, Tensor], name: str, where: str) -> ModelCard:
    """The card of a checkpoint, from the shapes of its tensors.

    Raises:
        ModelFileError: a tensor that tells a width is missing.
    """
    outputs = partial(out_channels, weights, where)
    last = (4 if plan.expansion == 1 else 7 for plan in BLOCKS)
    widths = (
        outputs(_STEM),
        *(outputs(f"backbone.features.{n}.conv.{k}.weight") for n, k in enumerate(last, 1)),
    )
    head = HeadConfig("ban", outputs("ban_head.corr_pw_cls.conv_kernel.0.weight"))
    return new_card(name, "siamrpn", widths, "mobilenet_v3", head)


def nanotrack_weights(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Without what nothing runs, and one logit in place of two: what is made of them depends on
    their difference alone (:class:`siamkd_core.siamrpn.SiamRPN`)."""
    kept = {key: value for key, value in weights.items() if not key.startswith(_UNUSED)}
    for leaf in ("weight", "bias"):
        scores = kept.get(f"{_SCORES}.{leaf}")
        if scores is not None and scores.ndim and scores.shape[0] == 2:
            kept[f"{_SCORES}.{leaf}"] = scores[1:] - scores[:1]
    return kept


def nanotrack_names(ours: Iterable[str]) -> dict[str, str]:
    """Their name of each of our tensors -> ours."""
    return {_theirs(name): name for name in ours if not name.endswith("num_batches_tracked")}


def _theirs(ours: str) -> str:
    part, rest = ours.split(".", 1)
    return _backbone(rest) if part == "backbone" else _head(rest)


def _backbone(ours: str) -> str:
    if ours.startswith("stem."):
        return f"backbone.features.0.{ours.removeprefix('stem.')}"
    match = re.fullmatch(r"blocks\.(\d+)\.layers\.(\d)\.(?:layers\.)?(\d)\.(\w+)", ours)
    assert match is not None
    block, part, place, leaf = int(match[1]), int(match[2]), int(match[3]), match[4]
    expands = BLOCKS[block].expansion != 1
    # where each part begins in the flat list of the published block
    excitation, begins = (3, {0: 0, 2: 3, 3: 5, 5: 7}) if expands else (2, {0: 0, 2: 3, 3: 4})
    where = begins[part]
    place_there = f"{where}.fc.{place}" if part == excitation else str(where + place)
    return f"backbone.features.{block + 1}.conv.{place_there}.{leaf}"


def _head(ours: str) -> str:
    branch, rest = ours.split(".", 1)
    short, tower, answer = _BRANCH[branch]
    if rest.startswith("answer."):
        return f"{answer}.{rest.removeprefix('answer.')}"
    if match := re.fullmatch(r"tower\.(\d)\.(\d)\.(\w+)", rest):
        return f"ban_head.{tower}.{5 * int(match[1]) + int(match[2])}.{match[3]}"
    (prefix,) = (known for known in _HEAD if rest.startswith(f"{known}."))
    return f"ban_head.{_HEAD[prefix].format(short)}.{rest.removeprefix(f'{prefix}.')}"
