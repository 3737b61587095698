"""Train a SiamFC: its recipe, its losses, how it is judged, and its model file."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from siamkd_core.backend import TorchBackend
from siamkd_core.box import present
from siamkd_core.config import to_mapping
from siamkd_core.device import resolve_precision
from siamkd_core.distributed import joined, predecessors, rank, share_of_mean, size, total
from siamkd_core.engine import fit
from siamkd_core.engine_config import EngineConfig
from siamkd_core.errors import ConfigError, SiamkdError
from siamkd_core.evaluate import run_sequence
from siamkd_core.freeze import FreezeConfig
from siamkd_core.image import read_image
from siamkd_core.labels import response_labels
from siamkd_core.losses.logistic import balanced_bce, balanced_bce_per_map
from siamkd_core.metrics import measure
from siamkd_core.modelfile import ModelCard, load_model, save_model
from siamkd_core.pairs import Pair, PairDataset, PairsConfig, Source, find_sources
from siamkd_core.schedule import ScheduleConfig
from siamkd_core.sequences import Sequence
from siamkd_core.siamfc import STRIDE, TEACHER_WIDTHS, SiamFC, count_parameters
from siamkd_core.task import Batch, Validation
from siamkd_core.tracker import Tracker


@dataclass(frozen=True)
class TrainConfig(EngineConfig):
    """A training run; the defaults are the published recipe of the PyTorch SiamFC.

    The model is the network of the best epoch, by a rule fixed in advance: the highest mean IoU of
    the tracking validation, the earliest epoch of equal ones; without tracking validation, the
    last epoch. The card records it.

    Attributes:
        name: of the model file that comes out.
        widths: channel widths of the AlexNet.
        start_from: shipped name or path of a model to fine-tune, of the same widths; empty for
            random weights.
        data: what the data is and its licence, in words, for the card.
        pairs: data and crops.
        label_radius: pixels (L1) around the target that are positive.
        stranger_weight: weight of the loss of each search region against the exemplar of another
            target of its batch, where every cell is negative; 0 leaves it out.
        validation_pairs: pairs from the held-out folders after each epoch, 0 for none.
        tracking_every: epochs between two validations by tracking the held-out sequences, with the
            default tracker parameters; the last epoch is always validated. 0: never.
        tracking_frames: of each held-out sequence, from its first.
        cache_gib: decoded images each worker may keep in memory, GiB.
    """

    name: str = "siamfc"
    widths: tuple[int, ...] = TEACHER_WIDTHS
    start_from: str = ""
    data: str = ""
    pairs: PairsConfig = field(default_factory=PairsConfig)
    label_radius: float = 16.0
    stranger_weight: float = 0.0
    validation_pairs: int = 0
    tracking_every: int = 0
    tracking_frames: int = 100
    cache_gib: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if "." in self.name or not self.name:
            raise ConfigError(f"name must be text without a dot, got {self.name!r}")
        if min(self.cache_gib, self.stranger_weight, self.validation_pairs) < 0:
            raise ConfigError(
                "cache_gib, stranger_weight and validation_pairs must not be negative"
            )
        if self.tracking_every < 0 or self.tracking_frames < 2:
            raise ConfigError("tracking_every >= 0 and tracking_frames >= 2 are needed")


def train(
    config: TrainConfig,
    data: str | Path,
    output: str | Path,
    device: str = "auto",
    precision: str = "auto",
    commit: str = "unknown",
    stop: Callable[[], bool] = lambda: False,
) -> Path:
    """Train, or go on where ``output`` holds a checkpoint, and return the model file's path.

    A run that was interrupted at any time goes on at its last checkpoint, with the pairs that come
    after it; on the same machine it ends with the same weights. Under ``torchrun`` every process
    calls this.

    Args:
        config: the run.
        data: folder that ``config.pairs.sources`` are found in.
        output: folder of the run, see :mod:`siamkd_core.runfolder`.
        device, precision: see :mod:`siamkd_core.device`.
        commit: of the code, for the card.
        stop: asked after each step; once true, a checkpoint is written and KeyboardInterrupt
            raised.

    Raises:
        SiamkdError: bad data or configuration, a checkpoint of another configuration, a loss that
            is not finite or a full disk (the last checkpoint stays).
    """
    with joined(device) as place:
        dtype = resolve_precision(precision, place)
        task = SiamFCTask(config, data, place, dtype, commit)
        facts = {
            "commit": commit,
            "device": torch.cuda.get_device_name(place) if place.type == "cuda" else "cpu",
            "precision": _short(dtype),
            "processes": size(),
        }
        (model,) = fit(config, task, Path(output), place, dtype, facts, stop)
        return model


def dry_run(config: TrainConfig, data: str | Path, device: str, precision: str) -> None:
    """Two steps of everything a run does, in a temporary folder: a step, checkpoint, interruption,
    resume, another step, both validations, the model file and its loading.

    Raises:
        SiamkdError: what the run itself would raise.
    """
    schedule = ScheduleConfig(
        config.schedule.kind,
        min(config.schedule.warmup_epochs, 1),
        (2,) if config.schedule.milestones else (),
    )
    short = replace(
        config,
        epochs=4 if schedule.milestones else 2,
        pairs_per_epoch=config.batch_size,
        schedule=schedule,
        freeze=tuple(FreezeConfig(phase.layers, 1) for phase in config.freeze),
        validation_pairs=min(config.validation_pairs, 2),
        tracking_every=min(config.tracking_every, 1),
        tracking_frames=3,
    )
    with joined(device), tempfile.TemporaryDirectory(prefix="siamkd-dry-run-") as folder:
        planned = []

        def stop() -> bool:
            planned.append(True)
            return True

        try:
            train(short, data, folder, device, precision, stop=stop)
        except KeyboardInterrupt:
            if not planned:  # a real Ctrl-C
                raise
            model = train(short, data, folder, device, precision)
            if rank() == 0:
                load_model(model)


class SiamFCTask:
    """A :class:`siamkd_core.task.Task`: one SiamFC and its logistic loss.

    Args:
        config, data, commit: see :func:`train`.
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
        self.config, self.device, self.dtype, self.commit = config, device, dtype, commit
        torch.manual_seed(config.seed)
        network = SiamFC(config.widths)
        self.base: dict[str, Any] = {}
        if config.start_from:
            network, base = load_model(config.start_from)
            if network.widths != config.widths:
                raise ConfigError(
                    f"{config.start_from} has the widths {network.widths}, the recipe has "
                    f"{config.widths}; they must be the same to fine-tune"
                )
            self.base = {"name": base.name, "sha256": base.sha256, "training": base.training}
        self.networks = nn.ModuleDict({config.name: network})
        self.samples = PairDataset(
            find_sources(data, config.pairs),
            config.pairs,
            config.steps * config.batch_size,
            config.seed,
            int(config.cache_gib * 2**30),
        )
        # Each process judges its share of what is held out.
        self.held_out: list[Pair] = []
        self.sequences: list[Sequence] = []
        if config.validation_pairs or config.tracking_every:
            sources = find_sources(data, config.pairs, held_out=True)
            if config.validation_pairs:
                # every pair has a target to hit
                positive = replace(config.pairs, negative=0.0)
                fixed = PairDataset(sources, positive, config.validation_pairs, seed=1)
                self.held_out = [fixed[i] for i in range(rank(), len(fixed), size())]
            if config.tracking_every:
                self.sequences = _trackable(sources, config.tracking_frames)
                if not self.sequences:
                    raise ConfigError(
                        "tracking_every needs whole videos: a sequence folder among pairs.holdout "
                        "(shards hold crops, so train from the images), or tracking_every: 0"
                    )
                for frame in (f for s in self.sequences[rank() :: size()] for f in s.frames):
                    read_image(frame)  # one that is broken must not stop the run at night

    def losses(self, networks: nn.ModuleDict, batch: Batch) -> dict[str, Tensor]:
        network = cast(SiamFC, networks[self.config.name])
        z, x = self._embed(network, batch)
        response = network.respond(z, x)
        loss = balanced_bce(response, self._labels(response, batch))
        if not self.config.stranger_weight:
            return {"loss": loss}
        strange = network.respond(predecessors(z), x)
        targets = batch["identity"][:, 0].contiguous()
        differ = (batch["identity"][:, 1] != predecessors(targets)).float()
        stranger = share_of_mean(balanced_bce_per_map(strange, torch.zeros_like(strange)), differ)
        together = loss + self.config.stranger_weight * stranger
        return {"loss": together, "response": loss, "stranger": stranger}

    def validate(self, networks: nn.ModuleDict, epoch: int) -> Validation:
        network = cast(SiamFC, networks[self.config.name])
        metrics = self._judge_pairs(network) if self.config.validation_pairs else {}
        every, last = self.config.tracking_every, epoch + 1 == self.config.epochs
        if not every or not (last or (epoch + 1) % every == 0):
            return Validation(metrics)
        iou = self._track(network)
        return Validation(metrics | {"iou/held_out": iou}, {self.config.name: iou})

    def saved(self, name: str, folder: Path) -> Path | None:
        path = folder / f"{name}.safetensors"
        try:
            load_model(path)
        except SiamkdError:
            return None
        return path

    def save(
        self, name: str, weights: Mapping[str, Tensor], facts: Mapping[str, Any], folder: Path
    ) -> Path:
        network = SiamFC(self.config.widths)
        network.load_state_dict(weights)
        card = ModelCard(
            name=name,
            architecture="siamfc",
            widths=network.widths,
            parameters=count_parameters(network),
            training={
                "data": self.config.data,
                "recipe": to_mapping(self.config),
                "pairs": self.config.steps * self.config.batch_size,
                "precision": _short(self.dtype),
                "commit": self.commit,
                "torch": torch.__version__,
                **facts,
                **({"started_from": self.base} if self.base else {}),
            },
        )
        return save_model(network, card, folder)

    def _embed(self, network: SiamFC, batch: Batch) -> tuple[Tensor, Tensor]:
        # crops travel as uint8, a quarter of the bytes
        exemplar, search = (
            batch[key].float().contiguous(memory_format=torch.channels_last)
            for key in ("exemplar", "search")
        )
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            return network.embed(exemplar), network.embed(search)

    def _labels(self, response: Tensor, batch: Batch) -> Tensor:
        radius = self.config.label_radius
        return response_labels(response.shape[-1], STRIDE, radius, batch["offset"])

    def _judge_pairs(self, network: SiamFC) -> dict[str, float]:
        """Mean loss, and the share of held-out pairs whose response peaks on the target."""
        sums = torch.zeros(3, device=self.device, dtype=torch.float64)
        loader: Any = DataLoader(self.held_out, batch_size=self.config.batch_size)  # type: ignore[arg-type]
        for rows in loader:
            batch = {name: value.to(self.device) for name, value in rows.items()}
            response = network.respond(*self._embed(network, batch))
            labels = self._labels(response, batch)
            loss = balanced_bce_per_map(response, labels)
            peak = response.flatten(1).argmax(1, keepdim=True)
            hits = labels.flatten(1).gather(1, peak)
            sums += torch.stack([loss.sum(), hits.sum(), loss.new_tensor(float(len(loss)))]).to(
                sums
            )
        loss_sum, hit_sum, count = total(sums).tolist()
        return {"loss/held_out": loss_sum / count, "hits/held_out": hit_sum / count}

    def _track(self, network: SiamFC) -> float:
        """Mean over the held-out sequences of the mean IoU of one pass through each."""
        copy = SiamFC(self.config.widths)
        copy.load_state_dict(network.state_dict())
        backend = TorchBackend(copy, str(self.device), _short(self.dtype))
        card = ModelCard(self.config.name, "siamfc", copy.widths, count_parameters(copy))
        values = np.zeros(len(self.sequences))
        for index in range(rank(), len(self.sequences), size()):
            sequence = self.sequences[index]
            try:
                boxes = run_sequence(Tracker(backend, card), sequence).boxes
            except SiamkdError as error:
                raise SiamkdError(f"validation by tracking: {error}") from error
            values[index] = measure(boxes, sequence.boxes).mean_iou
        return float(total(torch.from_numpy(values).to(self.device)).mean())


def _trackable(sources: list[Source], frames: int) -> list[Sequence]:
    """The sequences among the sources, each once: so many frames from the first true box."""
    found = {}
    for item in (item for source in sources for item in source.items):
        if isinstance(item, Sequence) and present(item.boxes).any():
            start = int(present(item.boxes).argmax())
            part = slice(start, start + frames)
            found[item.name, item.frames[0]] = Sequence(
                item.name, item.frames[part], item.boxes[part]
            )
    return list(found.values())


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
