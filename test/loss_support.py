"""Response maps, and what their divergence is, cell by cell."""

import math

import torch


def maps(*shape: int, seed: int = 0, scale: float = 3.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(*shape, generator=generator, dtype=torch.float64)


def some(*shape: int, seed: int = 2) -> torch.Tensor:
    """Positive positions, about a third, at least one and not all of each map."""
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.rand(*shape, generator=generator) < 0.3
    flat = chosen.flatten(1)
    flat[:, 0], flat[:, 1] = True, False
    return chosen


def divergence_by_loops(student, teacher, positive, temperature):
    """Of the two-class distributions, by the definition, cell by cell, from probabilities; one half
    for the positive cells and one for the others."""
    values = []
    for one, other, mask in zip(student.tolist(), teacher.tolist(), positive.tolist(), strict=True):
        cells = {True: [], False: []}
        for row, other_row, where in zip(one[0], other[0], mask[0], strict=True):
            for v, u, yes in zip(row, other_row, where, strict=True):
                q, p = (1 / (1 + math.exp(-logit / temperature)) for logit in (v, u))
                cells[yes].append(p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q)))
        halves = [sum(part) / len(part) if part else 0.0 for part in cells.values()]
        values.append(temperature**2 * sum(halves) / 2)
    return values
