"""A policy that proposes the shape of a student: one shrink ratio a width, one after the other.

After Ashok et al., "N2N Learning: Network to Network Compression via Policy Gradient Reinforcement
Learning", 2018, which arXiv 1907.10586 takes up for its students: a recurrent network that walks
through the layers and is trained by REINFORCE (Williams, 1992). Its layer removal is left out: the
student keeps the geometry of its teacher.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

FEATURES = 3
"""Of a width: its place among the others, its logarithm, the ratio chosen for the one before."""


class Proposal(NamedTuple):
    """Attributes:
    choices: index of the ratio of each width.
    log_probability: () float32, of all choices together; differentiable.
    """

    choices: tuple[int, ...]
    log_probability: Tensor


class ShapePolicy(nn.Module):
    """Two LSTM layers and a softmax over the ratios; each choice is an input of the next one.

    Args:
        widths: the full ones, at least 1 each.
        ratios: to choose from.
        hidden: of each layer; 30 in N2N.
    """

    def __init__(self, widths: Sequence[int], ratios: Sequence[float], hidden: int = 30) -> None:
        super().__init__()
        self.widths, self.ratios = tuple(widths), tuple(ratios)
        self.layers = nn.LSTM(FEATURES, hidden, num_layers=2)
        self.scores = nn.Linear(hidden, len(ratios))

    def propose(self, generator: torch.Generator) -> Proposal:
        """Draw a shape."""
        state, previous = None, 1.0
        choices: list[int] = []
        log_probability = torch.zeros(())
        for number, width in enumerate(self.widths):
            place = number / max(len(self.widths) - 1, 1)
            features = torch.tensor([[place, math.log2(width) / 10, previous]])
            out, state = self.layers(features, state)
            log_probabilities = self.scores(out[0]).log_softmax(0)
            choice = int(torch.multinomial(log_probabilities.exp(), 1, generator=generator))
            log_probability = log_probability + log_probabilities[choice]
            choices.append(choice)
            previous = self.ratios[choice]
        return Proposal(tuple(choices), log_probability)


def policy_loss(rewards: Sequence[float], baseline: float, log_probabilities: Tensor) -> Tensor:
    """``- mean_k (R_k - b) log pi_k``, whose gradient is REINFORCE's with a baseline.

    Args:
        rewards: R, of n proposals.
        baseline: b, which should not depend on them.
        log_probabilities: (n,) float32.

    Returns:
        () float32.
    """
    advantages = torch.tensor([reward - baseline for reward in rewards])
    return -(advantages * log_probabilities).mean()
