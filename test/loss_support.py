"""Response maps, and what their divergence is, cell by cell."""

import math

import torch


def maps(*shape: int, seed: int = 0, scale: float = 3.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(*shape, generator=generator, dtype=torch.float64)


def divergence_by_loops(student, teacher, temperature):
    """Of the two-class distributions, by the definition, cell by cell, from probabilities."""
    values = []
    for one, other in zip(student.tolist(), teacher.tolist(), strict=True):
        cells = []
        for row, other_row in zip(one[0], other[0], strict=True):
            for v, u in zip(row, other_row, strict=True):
                q, p = (1 / (1 + math.exp(-logit / temperature)) for logit in (v, u))
                cells.append(p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q)))
        values.append(temperature**2 * sum(cells) / len(cells))
    return values
