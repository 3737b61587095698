"""Names of the tensors of pysot's SiamRPN++ on a ResNet (siamrpn_r50_l234_dwxcorr), and ours.

Read from the source of STVIR/pysot: ResNet, AdjustAllLayer and MultiRPN of depth-wise heads, of any
widths. Its numbers are ours as they are: neither epsilons nor factors differ.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import partial

from torch import Tensor

from siamkd_core.import_layouts import out_channels
from siamkd_core.modelfile import ModelCard, new_card
from siamkd_core.siamrpn import HeadConfig

STEM = "backbone.conv1.weight"
"""Only a ResNet's checkpoint has it."""
_HEAD = {"exemplar": "conv_kernel", "search": "conv_search", "mix": "head"}
_BRANCH = {"score": "cls", "box": "loc"}
_OURS = tuple(
    re.compile(pattern)
    for pattern in (
        r"backbone\.stem\.(\d)\.(\w+)",
        r"backbone\.stages\.(\d)\.(\d+)\.layers\.(\d)\.(\w+)",
        r"backbone\.stages\.(\d)\.(\d+)\.shortcut\.(\d)\.(\w+)",
        r"backbone\.necks\.(\d)\.(\d)\.(\w+)",
        r"head\.heads\.(\d)\.(score|box)\.(exemplar|search|mix)\.(\d)\.(\w+)",
        r"head\.(score|box)_weight",
    )
)


def resnet_card(weights: Mapping[str, Tensor], name: str, where: str) -> ModelCard:
    """The card of a checkpoint, from the shapes of its tensors.

    Raises:
        ModelFileError: a tensor that tells a width is missing.
    """
    outputs = partial(out_channels, weights, where)
    stages = [n for n in range(1, 5) if f"backbone.layer{n}.0.conv1.weight" in weights]
    widths = (
        outputs(STEM),
        *(outputs(f"backbone.layer{n}.0.conv1.weight") for n in stages),
        outputs("neck.downsample2.downsample.0.weight"),
    )
    head = HeadConfig("depthwise", outputs("rpn_head.rpn2.cls.conv_search.0.weight"))
    bottlenecks = "backbone.layer1.0.conv3.weight" in weights
    return new_card(name, "siamrpn", widths, "resnet50" if bottlenecks else "resnet18", head)


def resnet_names(ours: Iterable[str]) -> dict[str, str]:
    """Their name of each of our tensors -> ours."""
    return {_theirs(name): name for name in ours if not name.endswith("num_batches_tracked")}


def _theirs(ours: str) -> str:
    found = [pattern.fullmatch(ours) for pattern in _OURS]
    (kind,) = (n for n, match in enumerate(found) if match)
    match = found[kind]
    assert match is not None
    part = match.groups()
    if kind == 0:
        return f"backbone.{('conv1', 'bn1')[int(part[0])]}.{part[1]}"
    if kind in (1, 2):
        block = f"backbone.layer{int(part[0]) + 1}.{part[1]}"
        # a convolution, a BatchNorm and a ReLU in turn
        place, which = divmod(int(part[2]), 3)
        layer = f"{('conv', 'bn')[which]}{place + 1}" if kind == 1 else f"downsample.{part[2]}"
        return f"{block}.{layer}.{part[3]}"
    if kind == 3:
        return f"neck.downsample{int(part[0]) + 2}.downsample.{part[1]}.{part[2]}"
    if kind == 4:
        branch = f"rpn_head.rpn{int(part[0]) + 2}.{_BRANCH[part[1]]}"
        return f"{branch}.{_HEAD[part[2]]}.{part[3]}.{part[4]}"
    return f"rpn_head.{_BRANCH[part[0]]}_weight"
