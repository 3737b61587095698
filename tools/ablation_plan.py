"""The runs of an ablation: which variants of a recipe, with which seeds, in which order."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from siamkd_core.config import from_mapping, to_mapping
from siamkd_core.distill_config import DistillConfig, SharingConfig, TermsConfig
from siamkd_core.errors import ConfigError

DEFAULT = "default"
"""Name of the recipe as it is, in a grid."""
HINTON_TEMPERATURE = 4.0


@dataclass(frozen=True)
class Run:
    """One distillation; ``folder`` is relative to the ablation's."""

    variant: str
    seed: int
    config: DistillConfig

    @property
    def folder(self) -> Path:
        return Path(self.variant) / f"seed{self.seed}"


def variants_of(base: DistillConfig) -> dict[str, DistillConfig]:
    """The designed variants by name: what each term of the method is worth, and two methods to
    compare it with. Weights are the recipe's; without sharing the first student is alone.

    Raises:
        ConfigError: a recipe that shares nothing, or does without one of the method's terms.
    """
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

    def single(losses: TermsConfig) -> DistillConfig:
        sharing = SharingConfig("none")
        return replace(base, students=base.students[:1], sharing=sharing, losses=losses)

    return {
        **{name: single(losses) for name, losses in alone.items()},
        "TS+AH+STR+KS": replace(base, losses=whole),
        **{name: single(losses) for name, losses in outside.items()},
    }


def grid_of(base: DistillConfig, factors: Sequence[str]) -> dict[str, DistillConfig]:
    """The recipe as it is, and with one factor at a time at another value.

    Args:
        base: the recipe.
        factors: ``KEY=V1,V2``; the key is a path in the recipe, ``losses.temperature`` or
            ``students.1.share``.

    Raises:
        ConfigError: not of this form, no such key, or a value out of range.
    """
    found = {DEFAULT: base}
    for factor in factors:
        key, equals, values = factor.partition("=")
        if not equals or not values:
            raise ConfigError(f"--grid {factor}: expected KEY=V1,V2")
        for text in values.split(","):
            config = with_value(base, key, yaml.safe_load(text))
            if config != base:
                found[f"{key}={text}"] = config
    return found


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
    configs: dict[str, DistillConfig], seeds: Iterable[int], only: Sequence[str] = ()
) -> list[Run]:
    """Every variant with every seed; all variants of one seed before the next, so that an
    unfinished ablation compares like with like.

    Raises:
        ConfigError: ``only`` names a variant that does not exist.
    """
    unknown = [name for name in only if name not in configs]
    if unknown:
        raise ConfigError(f"no variant {', '.join(unknown)}; there are: {', '.join(configs)}")
    return [
        Run(name, seed, replace(config, seed=seed))
        for seed in seeds
        for name, config in configs.items()
        if not only or name in only
    ]
