"""Find a student's shape by reinforcement learning: propose widths, distil a little, reward.

The rewards are N2N's (Ashok et al., 2018), which the paper of our method takes up; see
:mod:`siamkd_core.shape_policy`.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch

from siamkd_core.config import to_mapping
from siamkd_core.distill_config import DistillConfig, StudentConfig
from siamkd_core.engine_config import NEUTRAL
from siamkd_core.errors import ConfigError, ShapeError, SiamkdError
from siamkd_core.modelfile import write_atomically
from siamkd_core.shape_policy import ShapePolicy, policy_loss

CHILDREN = "children.jsonl"
SETTINGS = "search.json"


@dataclass(frozen=True)
class ShapeSearchConfig:
    """What a search is told.

    Attributes:
        recipe: path of the recipe of ``siamkd distill`` whose one student is searched.
        searched: places of the widths that shrink, counted from 0; the others stay.
        widths: the full ones, of which every ratio is a share; empty: the recipe's.
        head: whether the head's width shrinks too, of a siamrpn.
        ratios: to choose from, each in 0..1 (above 0).
        max_parameters: that a student may have; 0: any number.
        relax: updates in which the limit becomes strict (15 in N2N).
        pairs: that each student learns from before it is judged; 0: it is judged as it starts.
        updates, rollouts: of the policy, and shapes proposed for each (50 and 3 in N2N).
        hidden: units of the policy's layers.
        lr: of the policy's Adam (0.01 in N2N).
        seed: of the policy.
    """

    recipe: str
    searched: tuple[int, ...]
    widths: tuple[int, ...] = ()
    head: bool = False
    ratios: tuple[float, ...] = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
    max_parameters: int = 0
    relax: int = 15
    pairs: int = 0
    updates: int = 50
    rollouts: int = 3
    hidden: int = 30
    lr: float = 0.01
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.searched and not self.head:
            raise ConfigError("nothing to search: name places of widths in searched, or head: true")
        if len(set(self.searched)) < len(self.searched) or min(self.searched, default=0) < 0:
            raise ConfigError(f"searched: different places from 0 on, got {self.searched}")
        if not self.ratios or not all(0 < ratio <= 1 for ratio in self.ratios):
            raise ConfigError("ratios must lie in 0..1 (above 0), at least one")
        if min(self.updates, self.rollouts, self.hidden, self.relax) < 1 or self.lr <= 0:
            raise ConfigError("updates, rollouts, hidden and relax from 1 on, lr above 0")
        if self.pairs < 0 or self.max_parameters < 0:
            raise ConfigError("pairs and max_parameters must not be negative")


class Shape(NamedTuple):
    """Of a student: its backbone's widths, and its head's (0: none, or not a siamrpn)."""

    widths: tuple[int, ...]
    head: int


@dataclass(frozen=True)
class Child:
    """A student that was proposed.

    Attributes:
        shape: widths and head.
        parameters: learnable values; 0 of a network that cannot be.
        accuracy: on what the recipe holds out; None where it was not judged.
        reason: why it cannot be; empty of others.
    """

    shape: Shape
    parameters: int
    accuracy: float | None = None
    reason: str = ""


class Step(NamedTuple):
    """An update of the policy.

    Attributes:
        number: counted from 1.
        children, rewards: of its rollouts.
        best: the best child so far that keeps to the limit, None while there is none.
    """

    number: int
    children: list[Child]
    rewards: list[float]
    best: Child | None


class Judge(Protocol):
    """Says what a student is worth."""

    def parameters(self, student: StudentConfig) -> int:
        """Learnable values; ShapeError of a network that cannot be."""
        ...

    def accuracy(self, student: StudentConfig) -> float:
        """After a little distillation; ShapeError where it cannot start so, or does not learn."""
        ...


def reward(parameters: int, accuracy: float, teacher: tuple[int, float]) -> float:
    """``R = C (2 - C) a_S / a_T`` with ``C = 1 - p_S / p_T`` (N2N, section 3.3): compression counts
    less the more of it there is, so that accuracy decides in the end.

    Args:
        parameters, accuracy: p_S and a_S, the student's.
        teacher: p_T and a_T.
    """
    compression = 1 - parameters / teacher[0]
    return compression * (2 - compression) * accuracy / teacher[1]


def limited(value: float, over: bool, update: int, relax: int) -> float:
    """A reward under a limit of the size (N2N, appendix): over it,
    ``(eps - 1) + eps R`` with ``eps = max(1 - t / relax, 0)^4``; so -1 once ``update`` (t, from 0
    on) has reached ``relax``."""
    if not over:
        return value
    eps = max(1 - update / relax, 0.0) ** 4
    return eps - 1 + eps * value


def shape_of(config: ShapeSearchConfig, student: StudentConfig, choices: Sequence[int]) -> Shape:
    """What the choices make of a student's full widths; at least 1 each."""
    ratios = [config.ratios[choice] for choice in choices]
    widths = list(student.widths)
    for place, ratio in zip(config.searched, ratios, strict=False):
        widths[place] = max(round(ratio * widths[place]), 1)
    head = student.head.width if student.head else 0
    if config.head:
        head = max(round(ratios[-1] * head), 1)
    return Shape(tuple(widths), head)


def with_shape(student: StudentConfig, shape: Shape) -> StudentConfig:
    """The student of that shape."""
    head = replace(student.head, width=shape.head) if student.head else None
    return replace(student, widths=shape.widths, head=head)


def the_student(config: ShapeSearchConfig, recipe: DistillConfig) -> StudentConfig:
    """The one that is searched, at its full widths.

    Raises:
        ConfigError: not one student, places that its widths do not have, or no head to search.
    """
    if len(recipe.students) != 1:
        raise ConfigError(f"{config.recipe}: a search needs a recipe of one student")
    (student,) = recipe.students
    student = replace(student, widths=config.widths or student.widths)
    if max(config.searched, default=0) >= len(student.widths):
        raise ConfigError(
            f"searched: {student.name} has {len(student.widths)} widths, so places from 0 to "
            f"{len(student.widths) - 1}, got {max(config.searched)}"
        )
    if config.head and not student.head:
        raise ConfigError(f"head: true, but {student.name} of {config.recipe} has no head")
    return student


def search(
    config: ShapeSearchConfig,
    recipe: DistillConfig,
    teacher: tuple[int, float],
    judge: Judge,
    folder: Path,
    facts: Mapping[str, Any] | None = None,
) -> Iterator[Step]:
    """Search, update by update.

    Every child is noted in ``folder`` when it is judged, and none is judged twice. All else follows
    from the seed, so a search that was interrupted runs through what is noted and goes on; so does
    one that is given more updates.

    Args:
        config, recipe: of the search, and of the student.
        teacher: parameters and accuracy, above 0.
        judge: see :class:`Judge`.
        folder: of the search.
        facts: what else decides the accuracies, such as the precision.

    Raises:
        ConfigError: see :func:`the_student`; or the folder holds a search with other settings.
        SiamkdError: the folder cannot be written.
    """
    student = the_student(config, recipe)
    settings = {
        "search": without(to_mapping(config), {"updates"}),
        "recipe": without(to_mapping(recipe), NEUTRAL),
        "teacher": teacher,
        **(facts or {}),
    }
    notes = _Notes(folder, settings)
    full = [student.widths[place] for place in config.searched]
    full += [student.head.width] if config.head and student.head else []
    torch.manual_seed(config.seed)
    policy = ShapePolicy(full, config.ratios, config.hidden)
    optimizer = torch.optim.Adam(policy.parameters(), config.lr)
    generator = torch.Generator().manual_seed(config.seed)
    seen: list[float] = []
    best: tuple[float, Child] | None = None
    for update in range(config.updates):
        proposals = [policy.propose(generator) for _ in range(config.rollouts)]
        children, rewards = [], []
        for proposal in proposals:
            shape = shape_of(config, student, proposal.choices)
            child = notes.find(shape) or _sized(judge, with_shape(student, shape), shape)
            over = 0 < config.max_parameters < child.parameters
            # one that is too large is not worth the time once the limit is strict
            if (
                child.parameters
                and child.accuracy is None
                and not (over and update >= config.relax)
            ):
                child = notes.add(_judged(judge, with_shape(student, shape), child))
            value = -1.0
            if child.parameters and child.accuracy is not None:
                value = reward(child.parameters, child.accuracy, teacher)
                if not over and (best is None or value > best[0]):
                    best = value, child
                value = limited(value, over, update, config.relax)
            children.append(child)
            rewards.append(value)
        # nothing was there before the first update: its own
        before = seen or rewards
        baseline = sum(before) / len(before)
        seen = seen + rewards
        together = torch.stack([proposal.log_probability for proposal in proposals])
        optimizer.zero_grad()
        policy_loss(rewards, baseline, together).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        yield Step(update + 1, children, rewards, best[1] if best else None)


def _sized(judge: Judge, student: StudentConfig, shape: Shape) -> Child:
    try:
        return Child(shape, judge.parameters(student))
    except ShapeError as error:
        return Child(shape, 0, reason=str(error))


def _judged(judge: Judge, student: StudentConfig, child: Child) -> Child:
    try:
        return replace(child, accuracy=judge.accuracy(student))
    except ShapeError as error:
        return replace(child, parameters=0, reason=str(error))


def without(values: Mapping[str, Any], keys: Collection[str]) -> dict[str, Any]:
    """The mapping but for some of its keys."""
    return {key: value for key, value in values.items() if key not in keys}


class _Notes:
    """The children judged so far, a line each."""

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        text = json.dumps(settings, indent=2, sort_keys=True) + "\n"
        path = folder / SETTINGS
        self._path = folder / CHILDREN
        self._children: dict[Shape, Child] = {}
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if path.exists() and path.read_text(encoding="utf-8") != text:
                raise ConfigError(
                    f"{folder} holds a search with other settings ({SETTINGS}); choose another "
                    "folder, or remove this one"
                )
            write_atomically(path, text.encode())
            lines = self._path.read_text(encoding="utf-8") if self._path.exists() else ""
        except OSError as error:
            raise unwritable(folder, error) from error
        for note in map(json.loads, lines.splitlines()):
            widths, head = note.pop("shape")
            shape = Shape(tuple(widths), head)
            self._children[shape] = Child(shape, **note)

    def find(self, shape: Shape) -> Child | None:
        return self._children.get(shape)

    def add(self, child: Child) -> Child:
        self._children[child.shape] = child
        lines = (json.dumps(asdict(one)) + "\n" for one in self._children.values())
        try:
            write_atomically(self._path, "".join(lines).encode())
        except OSError as error:
            raise unwritable(self._path, error) from error
        return child


def unwritable(path: Path, error: OSError) -> SiamkdError:
    """The error for a file or folder that cannot be written."""
    return SiamkdError(f"cannot write {path}: {error.strerror or error}")
