"""The runs of an ablation: which variants of a recipe, with which seeds, in which order."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from siamkd_core.config import from_mapping, to_mapping
from siamkd_core.distill_config import DistillConfig, SharingConfig, StudentConfig, TermsConfig
from siamkd_core.errors import ConfigError

DEFAULT = "default"
"""Name of the recipe as it is, in a grid."""
DESIGNED = ("label", "TS", "TS+AH", "TS+STR", "TS+AH+STR", "TS+AH+STR+KS", "Hinton", "FitNet")
"""Names of :func:`variants_of`."""
HINTON_TEMPERATURE = 4.0


@dataclass(frozen=True)
class Variant:
    """What is compared: the first of the students, taught so.

    Attributes:
        students: each with its own losses; the others are there for the first to learn from.
        rest: a recipe that says everything else; its students and losses mean nothing.
    """

    students: tuple[StudentConfig, ...]
    rest: DistillConfig


@dataclass(frozen=True)
class Run:
    """One distillation of the students of several variants.

    Attributes:
        judged: the student that is evaluated, by variant.
        folder: relative to the ablation's.
    """

    seed: int
    config: DistillConfig
    judged: dict[str, str]
    folder: Path


def variants_of(base: DistillConfig) -> dict[str, Variant]:
    """The designed variants by name: what each term of the method is worth, and two methods to
    compare it with. Weights are the recipe's; without sharing the first student is alone.

    Raises:
        ConfigError: a recipe that shares nothing, does without one of the method's terms, or gives
            a student losses of its own.
    """
    _without_own_losses(base)
    terms = base.losses
    if not (terms.teacher_soft and terms.adaptive_hard and terms.target_response):
        raise ConfigError("an ablation starts from a recipe with all terms of the method")
    if base.sharing.variant == "none":
        raise ConfigError("an ablation starts from a recipe with sharing; it leaves it out itself")
    nothing = replace(
        terms, label=1.0, teacher_soft=0.0, adaptive_hard=0.0, target_response=0.0,
        feature_matching=0.0,
    )  # fmt: skip
    soft = replace(nothing, label=0.0, teacher_soft=terms.teacher_soft)
    hard, response = terms.adaptive_hard, terms.target_response
    whole = replace(soft, adaptive_hard=hard, target_response=response)
    alone: dict[str, TermsConfig] = {
        "label": nothing,
        "TS": soft,
        "TS+AH": replace(soft, adaptive_hard=hard),
        "TS+STR": replace(soft, target_response=response),
        "TS+AH+STR": whole,
    }
    outside = {
        "Hinton": replace(nothing, teacher_soft=1.0, temperature=HINTON_TEMPERATURE),
        "FitNet": replace(nothing, feature_matching=terms.feature_matching or 1.0),
    }

    def single(losses: TermsConfig) -> Variant:
        return Variant((replace(base.students[0], losses=losses),), base)

    return {
        **{name: single(losses) for name, losses in alone.items()},
        "TS+AH+STR+KS": Variant(_with_losses(base, whole), base),
        **{name: single(losses) for name, losses in outside.items()},
    }


def _without_own_losses(base: DistillConfig) -> None:
    own = [one.name for one in base.students if one.losses]
    if own:
        raise ConfigError(
            f"{', '.join(own)}: the ablation gives students their losses: put them under losses"
        )


def _with_losses(config: DistillConfig, losses: TermsConfig) -> tuple[StudentConfig, ...]:
    return tuple(replace(one, losses=losses) for one in config.students)


def grid_of(base: DistillConfig, factors: Sequence[str]) -> dict[str, Variant]:
    """The recipe as it is, and with one factor at a time at another value.

    Args:
        base: the recipe.
        factors: ``KEY=V1,V2``; the key is a path in the recipe, ``losses.temperature`` or
            ``students.1.share``.

    Raises:
        ConfigError: not of this form, no such key, a value out of range, or a recipe that gives a
            student losses of its own, which no factor under ``losses`` would reach.
    """
    _without_own_losses(base)
    found = {DEFAULT: base}
    for factor in factors:
        key, equals, values = factor.partition("=")
        if not equals or not values:
            raise ConfigError(f"--grid {factor}: expected KEY=V1,V2")
        for text in values.split(","):
            config = with_value(base, key, yaml.safe_load(text))
            if config != base:
                found[f"{key}={text}"] = config
    return {name: _variant(config, base) for name, config in found.items()}


def _variant(config: DistillConfig, base: DistillConfig) -> Variant:
    """A recipe as a variant; ``rest`` is the base's own where only students and losses differ."""
    students = config.students[:1] if config.sharing.variant == "none" else config.students
    ours = tuple(replace(one, losses=config.terms(one)) for one in students)
    return Variant(ours, replace(config, students=base.students, losses=base.losses))


def changed(base: DistillConfig, changes: Sequence[str]) -> DistillConfig:
    """The recipe with other values.

    Args:
        changes: ``KEY=VALUE``; keys as in :func:`with_value`.

    Raises:
        ConfigError: not of this form, no such key, or a value out of range.
    """
    for change in changes:
        key, equals, text = change.partition("=")
        if not equals:
            raise ConfigError(f"--set {change}: expected KEY=VALUE")
        base = with_value(base, key, yaml.safe_load(text))
    return base


def with_value(base: DistillConfig, key: str, value: Any) -> DistillConfig:
    """The recipe with another value at a path of keys and places in lists.

    Raises:
        ConfigError: no such key, or a value out of range.
    """
    mapping = to_mapping(base)
    inner: Any = mapping
    *path, last = key.split(".")
    try:
        for part in path:
            inner = inner[int(part) if isinstance(inner, list) else part]
        place: Any = int(last) if isinstance(inner, list) else last
        inner[place]  # an unknown key must not be added
        inner[place] = value
    except (KeyError, IndexError, ValueError, TypeError) as error:
        raise ConfigError(f"the recipe has no {key}") from error
    return from_mapping(DistillConfig, mapping, f"{key}={value}")


def plan(
    variants: Mapping[str, Variant], seeds: Iterable[int], only: Sequence[str] = ()
) -> list[Run]:
    """Every variant with every seed; all variants of one seed before the next, so that an
    unfinished ablation compares like with like. Those that differ only in their students are
    trained in one run: on the same pairs, and the teacher answers once for all of them.

    A run's folder depends on its variants alone, so that other variants never meet its checkpoint:
    ``seed0`` for the designed ones, for others the first and a hash of all their names besides.

    Raises:
        ConfigError: ``only`` names a variant that does not exist.
    """
    unknown = [name for name in only if name not in variants]
    if unknown:
        raise ConfigError(f"no variant {', '.join(unknown)}; there are: {', '.join(variants)}")
    groups: list[dict[str, Variant]] = []
    for name, variant in variants.items():
        if only and name not in only:
            continue
        for group in groups:
            if next(iter(group.values())).rest == variant.rest:
                group[name] = variant
                break
        else:
            groups.append({name: variant})
    return [_run(group, seed) for seed in seeds for group in groups]


def _run(group: Mapping[str, Variant], seed: int) -> Run:
    """A recipe with all students of a group, each told apart by its variant."""
    students: list[StudentConfig] = []
    prefixes = slugs(group)
    for name, variant in group.items():
        names = {one.name: f"{prefixes[name]}_{one.name}" for one in variant.students}
        for one in variant.students:
            told = one.learns_from or [other for other in names if other != one.name]
            others = tuple(names[other] for other in told if other in names)
            share = one.share if others else 0.0
            students.append(replace(one, name=names[one.name], learns_from=others, share=share))
    rest = next(iter(group.values())).rest
    sharing = rest.sharing if any(one.share for one in students) else SharingConfig("none")
    config = replace(rest, students=tuple(students), sharing=sharing, seed=seed)
    judged = {name: f"{prefixes[name]}_{v.students[0].name}" for name, v in group.items()}
    return Run(seed, config, judged, Path(f"seed{seed}{_suffix(tuple(group))}"))


def _suffix(names: tuple[str, ...]) -> str:
    """What a folder's name says of the variants in it."""
    return "" if names == DESIGNED else f"-{slug(names[0])}-{_short_hash(*names)}"


def slugs(names: Iterable[str]) -> dict[str, str]:
    """The slug of each name; where two are the same, as of -1 and 1, with a hash of the name."""
    plain = {name: slug(name) for name in names}
    count = Counter(plain.values())
    return {
        name: f"{short}_{_short_hash(name)}" if count[short] > 1 else short
        for name, short in plain.items()
    }


def _short_hash(*names: str) -> str:
    return hashlib.sha256("\n".join(names).encode()).hexdigest()[:6]


def slug(name: str) -> str:
    """A variant's name as part of a student's: letters, digits and underscores."""
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
