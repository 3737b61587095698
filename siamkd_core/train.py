"""Train a SiamFC: one explicit loop, from numbered pairs to a checkpoint per epoch."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, Subset

from siamkd_core.config import from_mapping, to_mapping
from siamkd_core.device import resolve_device, resolve_precision
from siamkd_core.errors import ConfigError, SiamkdError
from siamkd_core.labels import response_labels
from siamkd_core.loss import balanced_bce
from siamkd_core.modelfile import ModelCard, load_model, save_model
from siamkd_core.pairs import Pair, PairDataset, PairsConfig, find_sources
from siamkd_core.siamfc import STRIDE, TEACHER_WIDTHS, SiamFC, count_parameters

CHECKPOINT = "checkpoint.pt"


@dataclass(frozen=True)
class TrainConfig:
    """A training run; the defaults are the published recipe of the PyTorch SiamFC.

    Attributes:
        name: of the model file that comes out.
        widths: channel widths of the AlexNet.
        start_from: shipped name or path of a model to fine-tune, of the same widths; empty for
            random weights.
        data: what the data is and its licence, in words, for the card.
        pairs: data and crops.
        epochs: number of epochs; the last one is the model (a rule fixed in advance).
        pairs_per_epoch: rounded down to whole batches.
        batch_size: pairs a step.
        lr, lr_end: learning rate of the first and the last epoch, exponential in between.
        momentum, weight_decay: of SGD.
        label_radius: pixels (L1) around the target that are positive.
        ema: decay a step of the exponential moving average of the weights; the average is what is
            validated and becomes the model. 0: the weights themselves.
        stranger_weight: weight of the loss of each search region against the exemplar of another
            target of its batch, where every cell is negative; 0 leaves it out.
        validation_pairs: pairs from the held-out folders after each epoch, 0 for none.
        workers: processes that make pairs; 0 makes them in the training process.
        cache_gib: decoded images each worker may keep in memory, GiB.
        seed: of weights and pairs.
    """

    name: str = "siamfc"
    widths: tuple[int, ...] = TEACHER_WIDTHS
    start_from: str = ""
    data: str = ""
    pairs: PairsConfig = field(default_factory=PairsConfig)
    epochs: int = 50
    pairs_per_epoch: int = 9335
    batch_size: int = 8
    lr: float = 1e-2
    lr_end: float = 1e-5
    momentum: float = 0.9
    weight_decay: float = 5e-4
    ema: float = 0.0
    label_radius: float = 16.0
    stranger_weight: float = 0.0
    validation_pairs: int = 0
    workers: int = 2
    cache_gib: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch_size < 2 or self.pairs_per_epoch < self.batch_size:
            raise ConfigError("epochs >= 1, batch_size >= 2 and pairs_per_epoch >= batch_size")
        if not 0 < self.lr_end <= self.lr:
            raise ConfigError("lr and lr_end must fulfil 0 < lr_end <= lr")
        if not 0 <= self.ema < 1:
            raise ConfigError(f"ema must lie in 0..1 (below 1), got {self.ema}")
        if self.workers < 0 or self.cache_gib < 0 or self.stranger_weight < 0:
            raise ConfigError("workers, cache_gib and stranger_weight must not be negative")

    @property
    def steps_per_epoch(self) -> int:
        return self.pairs_per_epoch // self.batch_size


def learning_rate(config: TrainConfig, epoch: int) -> float:
    """``lr * (lr_end / lr) ** (epoch / (epochs - 1))``, epoch counted from 0."""
    if config.epochs == 1:
        return config.lr
    return float(config.lr * (config.lr_end / config.lr) ** (epoch / (config.epochs - 1)))


def train(
    config: TrainConfig,
    data: str | Path,
    output: str | Path,
    device: str = "auto",
    precision: str = "auto",
    commit: str = "unknown",
) -> Path:
    """Train, or go on where ``output`` holds a checkpoint, and return the model file's path.

    A run that was interrupted at any time goes on at the start of the epoch it was in, with the
    pairs of that epoch; on the same machine it ends with the same weights.

    Args:
        config: the run.
        data: folder that ``config.pairs.sources`` are found in.
        output: folder for checkpoint, TensorBoard curves and model file.
        device, precision: see :mod:`siamkd_core.device`.
        commit: of the code, for the card.

    Raises:
        SiamkdError: bad data or configuration, a checkpoint of another configuration, or a loss
            that is not finite (the last checkpoint stays).
    """
    from torch.utils.tensorboard import SummaryWriter

    output = Path(output)
    output.mkdir(parents=True, exist_ok=True)
    run = _Run(config, data, device, precision)
    first_epoch = run.resume(output / CHECKPOINT)
    finished = output / f"{config.name}.safetensors"
    if first_epoch == config.epochs and finished.is_file():
        # its card may hold tuning, calibration and scores by now
        return finished
    writer = SummaryWriter(str(output / "tensorboard"), purge_step=first_epoch * run.steps)
    columns = (
        TextColumn("epoch {task.fields[epoch]}/" + str(config.epochs)),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]:.4f}  {task.fields[speed]:.1f} pairs/s"),
        TimeRemainingColumn(),
    )
    with Progress(*columns) as progress, writer:
        bar = progress.add_task(
            "train",
            total=config.epochs * run.steps,
            completed=first_epoch * run.steps,
            epoch=first_epoch + 1,
            loss=math.nan,
            speed=0.0,
        )
        batches = run.batches(first_epoch)
        for epoch in range(first_epoch, config.epochs):
            lr = learning_rate(config, epoch)
            started, total = time.perf_counter(), 0.0
            for step in range(epoch * run.steps, (epoch + 1) * run.steps):
                loss = run.step(next(batches), lr)
                if not math.isfinite(loss):
                    raise SiamkdError(
                        f"the loss became {loss} in step {step}; the checkpoint of epoch {epoch} "
                        f"in {output} is intact: lower lr and start again from it"
                    )
                total += loss
                done = step - epoch * run.steps + 1
                speed = done * config.batch_size / (time.perf_counter() - started)
                progress.update(bar, advance=1, epoch=epoch + 1, loss=total / done, speed=speed)
                if step % 20 == 0:
                    writer.add_scalar("loss/train", loss, step)
            end = (epoch + 1) * run.steps
            curves = {"loss/epoch": total / run.steps, "lr": lr, "pairs_per_second": speed}
            curves.update(run.validate())
            for name, value in curves.items():
                writer.add_scalar(name, value, end)
            shown = "  ".join(f"{k} {v:.4g}" for k, v in curves.items())
            progress.console.print(f"epoch {epoch + 1}: {shown}", highlight=False)
            run.save(output / CHECKPOINT, epoch + 1)
    return save_model(run.model, run.card(commit), output)


class _Run:
    """The pieces of a run: data, network, optimiser and how a step uses them."""

    def __init__(self, config: TrainConfig, data: str | Path, device: str, precision: str) -> None:
        self.config = config
        self.steps = config.steps_per_epoch
        self.device = resolve_device(device)
        self.dtype = resolve_precision(precision, self.device)
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
        self.network = network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = (
            AveragedModel(
                self.network, multi_avg_fn=get_ema_multi_avg_fn(config.ema), use_buffers=True
            )
            if config.ema
            else None
        )
        self.optimizer = torch.optim.SGD(
            self.network.parameters(),
            lr=config.lr,
            momentum=config.momentum,
            weight_decay=config.weight_decay,
        )
        # float16 gradients underflow without a scale; bfloat16 and float32 do not need one
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.dtype == torch.float16)
        count = config.epochs * self.steps * config.batch_size
        self.pairs = PairDataset(
            find_sources(data, config.pairs),
            config.pairs,
            count,
            config.seed,
            int(config.cache_gib * 2**30),
        )
        self.held_out: list[Pair] = []
        if config.validation_pairs:
            sources = find_sources(data, config.pairs, held_out=True)
            # every pair has a target to hit
            positive = replace(config.pairs, negative=0.0)
            fixed = PairDataset(sources, positive, config.validation_pairs, seed=1)
            self.held_out = [fixed[i] for i in range(len(fixed))]

    @property
    def model(self) -> SiamFC:
        """The network that is validated and saved: the average where one is kept."""
        return self.network if self.average is None else cast(SiamFC, self.average.module)

    def batches(self, first_epoch: int) -> Iterator[Pair]:
        start = first_epoch * self.steps * self.config.batch_size
        loader = DataLoader(
            Subset(self.pairs, range(start, len(self.pairs))),
            batch_size=self.config.batch_size,
            num_workers=self.config.workers,
            pin_memory=self.device.type == "cuda",
        )
        return iter(loader)

    def step(self, batch: Pair, lr: float) -> float:
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.network.train()
        loss = self.losses(self.network, batch)[0]
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.average is not None:
            self.average.update_parameters(self.network)
        return float(loss.detach())

    def losses(self, network: SiamFC, batch: Pair) -> tuple[Tensor, Tensor, Tensor]:
        """Total loss (), response logits (N, 1, R, R) and labels (N, 1, R, R) of a batch."""
        exemplar, search = (self._image(batch[key]) for key in ("exemplar", "search"))
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            z, x = network.embed(exemplar), network.embed(search)
        response = network.respond(z, x)
        labels = response_labels(
            response.shape[-1], STRIDE, self.config.label_radius, batch["offset"]
        ).to(self.device)
        loss = balanced_bce(response, labels)
        if self.config.stranger_weight:
            strange = network.respond(z.roll(1, 0), x)
            differ = batch["identity"][:, 1] != batch["identity"][:, 0].roll(1)
            if differ.any():
                picked = strange[differ.to(self.device)]
                loss = loss + self.config.stranger_weight * balanced_bce(
                    picked, torch.zeros_like(picked)
                )
        return loss, response, labels

    def _image(self, crops: Tensor) -> Tensor:
        crops = crops.to(self.device, non_blocking=True)
        return crops.float().contiguous(memory_format=torch.channels_last)

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Mean loss, and the share of held-out pairs whose response peaks on the target."""
        if not self.held_out:
            return {}
        network = self.model.eval()
        losses, hits = [], []
        loader: Any = DataLoader(self.held_out, batch_size=self.config.batch_size)  # type: ignore[arg-type]
        for batch in loader:
            loss, response, labels = self.losses(network, batch)
            losses.append(float(loss))
            peak = response.flatten(1).argmax(1, keepdim=True)
            hits.append(labels.flatten(1).gather(1, peak).mean().item())
        return {"loss/held_out": sum(losses) / len(losses), "hits/held_out": sum(hits) / len(hits)}

    def save(self, path: Path, epochs_done: int) -> None:
        state = {
            "config": to_mapping(self.config),
            "epochs_done": epochs_done,
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
        }
        temporary = path.with_name(path.name + ".part")
        torch.save(state, temporary)
        temporary.replace(path)

    def resume(self, path: Path) -> int:
        """Load a checkpoint if there is one and return the number of finished epochs."""
        if not path.is_file():
            return 0
        state = torch.load(path, map_location=self.device, weights_only=True)
        stored = from_mapping(TrainConfig, state["config"], str(path))
        if stored != self.config:
            before, now = to_mapping(stored), to_mapping(self.config)
            changed = ", ".join(k for k in now if now[k] != before[k])
            raise SiamkdError(
                f"{path} belongs to another configuration (changed: {changed}); "
                "choose another --output, or restore the configuration to resume"
            )
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        return int(state["epochs_done"])

    def card(self, commit: str) -> ModelCard:
        return ModelCard(
            name=self.config.name,
            architecture="siamfc",
            widths=self.network.widths,
            parameters=count_parameters(self.network),
            training={
                "data": self.config.data,
                "recipe": to_mapping(self.config),
                "pairs": self.config.epochs * self.steps * self.config.batch_size,
                "precision": str(self.dtype).removeprefix("torch."),
                "commit": commit,
                "torch": torch.__version__,
                **({"started_from": self.base} if self.base else {}),
            },
        )
