"""Names of the tensors in public checkpoints, and ours.

Read from the sources of huanglianghua/siamfc-pytorch (AlexNetV1), foolwood/DaSiamRPN (SiamRPN of
any size) and STVIR/pysot (AlexNet and AlexNetLegacy, UPChannelRPN and DepthwiseRPN).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor

from siamkd_core.errors import ModelFileError

BLOCKS = ("0", "2", "4", "5", "6")
"""Places of the five convolutions in our AlexNet; the others pool."""


class Layout(NamedTuple):
    """Attributes:
    family: our architecture.
    convolutions, norms: name of each of the five layers of the AlexNet; "" for a missing one.
    heads: names of the head's modules -> ours, by kind of head.
    """

    family: str
    convolutions: tuple[str, ...]
    norms: tuple[str, ...]
    heads: Mapping[str, Mapping[str, str]]


def _flat(prefix: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    return (
        tuple(f"{prefix}.{n}" for n in (0, 4, 8, 11, 14)),
        tuple(f"{prefix}.{n}" for n in (1, 5, 9, 12, 15)),
    )


def _nested(prefix: str, last_norm: bool) -> tuple[tuple[str, ...], tuple[str, ...]]:
    norms = [f"{prefix}{n}.1" for n in range(1, 6)]
    return (
        tuple(f"{prefix}{n}.0" for n in range(1, 6)),
        tuple(norms if last_norm else [*norms[:4], ""]),
    )


_PYSOT_HEADS = {
    "upchannel": {
        "rpn_head.template_cls_conv": "exemplar_score",
        "rpn_head.template_loc_conv": "exemplar_box",
        "rpn_head.search_cls_conv": "search_score",
        "rpn_head.search_loc_conv": "search_box",
        "rpn_head.loc_adjust": "adjust",
    },
    "depthwise": {
        f"rpn_head.{theirs}.{part}.{n}": f"{ours}.{name}.{n}"
        for theirs, ours in (("cls", "score"), ("loc", "box"))
        for part, name, places in (
            ("conv_kernel", "exemplar", (0, 1)),
            ("conv_search", "search", (0, 1)),
            ("head", "mix", (0, 1, 3)),
        )
        for n in places
    },
}
_DASIAMRPN_HEAD = {
    "conv_cls1": "exemplar_score",
    "conv_r1": "exemplar_box",
    "conv_cls2": "search_score",
    "conv_r2": "search_box",
    "regress_adjust": "adjust",
}
LAYOUTS: dict[str, tuple[Layout, ...]] = {
    "siamfc-pytorch": (Layout("siamfc", *_nested("backbone.conv", False), {}),),
    "dasiamrpn": (Layout("siamrpn", *_flat("featureExtract"), {"upchannel": _DASIAMRPN_HEAD}),),
    "pysot": (
        Layout("siamrpn", *_flat("backbone.features"), _PYSOT_HEADS),
        Layout("siamrpn", *_nested("backbone.layer", True), _PYSOT_HEADS),
    ),
}
"""By name; pysot has two spellings of the same backbone."""


def out_channels(weights: Mapping[str, Tensor], where: str, key: str) -> int:
    """Of a convolution in the file ``where``, by the name of its weight.

    Raises:
        ModelFileError: it is missing, or is none of a convolution.
    """
    if key not in weights or weights[key].ndim != 4:
        raise ModelFileError(f"{where} does not fit: missing or misshapen {key}")
    return weights[key].shape[0]


def tensor_names(layout: Layout, kind: str) -> dict[str, str]:
    """Their name of every tensor of a layout with this kind of head -> ours."""
    modules: dict[str, tuple[str, bool]] = {}  # ours, and whether it is a BatchNorm
    for place, convolution, norm in zip(BLOCKS, layout.convolutions, layout.norms, strict=True):
        block = f"backbone.{place}"
        modules[convolution] = (f"{block}.0" if norm else block, False)
        if norm:
            modules[norm] = (f"{block}.1", True)
    for theirs, ours in layout.heads.get(kind, {}).items():
        modules[theirs] = (f"head.{ours}", kind == "depthwise" and ours.endswith(".1"))
    names = {}
    for theirs, (ours, is_norm) in modules.items():
        without_bias = ours.startswith("head.") and kind == "depthwise" and ours.endswith(".0")
        for leaf in ("weight", "bias", "running_mean", "running_var"):
            if (leaf.startswith("running") and not is_norm) or (leaf == "bias" and without_bias):
                continue
            names[f"{theirs}.{leaf}"] = f"{ours}.{leaf}"
    return names
