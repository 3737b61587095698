"""Train one network from labels: its recipe and its losses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from siamkd_core.alexnet import TEACHER_WIDTHS
from siamkd_core.pair_task import PairTask
from siamkd_core.pupil import fresh, sample
from siamkd_core.recipe import RecipeConfig, check_model_name, check_start
from siamkd_core.run import run
from siamkd_core.siamrpn import HeadConfig
from siamkd_core.task import Batch


@dataclass(frozen=True)
class TrainConfig(RecipeConfig):
    """A training run; the defaults are the published recipe of the PyTorch SiamFC.

    Attributes:
        name: of the model file that comes out.
        architecture: family, one of :data:`siamkd_core.architectures.ARCHITECTURES`.
        backbone: one of the family's, :data:`siamkd_core.siamfc.BACKBONES` or
            :data:`siamkd_core.siamrpn.BACKBONES`.
        widths: channel widths of the backbone.
        head: of a siamrpn.
        pretrained: start the backbone from an image classifier, see
            :mod:`siamkd_core.pretrained`.
        start_from: shipped name or path of a model of the same backbone, widths and head to
            fine-tune; of one of another architecture, only the backbone is taken (a siamrpn's
            ``alexnet`` may start from a siamfc's; a siamfc's ``mobilenet_v3`` or
            ``mobilenet_v3_slim`` from a siamrpn's, with necks that are fitted on pairs of the data,
            see :mod:`siamkd_core.start_necks`), and for the backbone ``efficientnet_slim`` or
            ``mobilenet_v3_slim`` what is left of an ``efficientnet`` or ``mobilenet_v3`` and of its
            head, fitted on pairs of the data, see :mod:`siamkd_core.prune`. Empty for random
            weights.
    """

    name: str = "siamfc"
    architecture: str = "siamfc"
    backbone: str = "alexnet"
    widths: tuple[int, ...] = TEACHER_WIDTHS
    head: HeadConfig | None = None
    pretrained: bool = False
    start_from: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_model_name(self.name)
        check_start(self.pretrained, self.start_from)


def train(
    config: TrainConfig,
    data: str | Path,
    output: str | Path,
    device: str = "auto",
    precision: str = "auto",
    commit: str = "unknown",
    stop: Callable[[], bool] = lambda: False,
) -> Path:
    """The path of the model file that :func:`siamkd_core.run.run` leaves."""
    (model,) = run(TrainTask, config, data, output, device, precision, commit, stop)
    return model


class TrainTask(PairTask):
    """A :class:`siamkd_core.task.Task`: one network and its loss against the labels.

    Args:
        config, data, commit: see :func:`siamkd_core.run.run`.
        device, dtype: where and in which precision the network runs.
    """

    def __init__(
        self,
        config: TrainConfig,
        data: str | Path,
        device: torch.device,
        dtype: torch.dtype,
        commit: str,
    ) -> None:
        pupil = fresh(
            config.name,
            config.architecture,
            config.widths,
            config.begins_with,
            config.start_from,
            config.backbone,
            config.pretrained,
            config.head,
            partial(sample, config, data),
        )
        super().__init__(config, data, device, dtype, commit, [pupil])
        self.config = config

    def losses(self, networks: nn.ModuleDict, batch: Batch) -> dict[str, Tensor]:
        network = networks[self.config.name]
        answer = self.family.answer(network, batch)
        parts = {
            name: values.mean() for name, values in self.family.label_parts(answer, batch).items()
        }
        loss = torch.stack(list(parts.values())).sum()
        if self.config.stranger_weight:
            stranger = parts["stranger"] = self.family.strange_loss(network, answer, batch)
            loss = loss + self.config.stranger_weight * stranger
        return {"loss": loss, **parts} if len(parts) > 1 else {"loss": loss}
