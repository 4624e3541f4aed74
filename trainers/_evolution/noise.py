"""Noise of the evolution strategies: drawn from counters, never stored.

Every draw has its own generator, whose seed is a function of (key, counter) with
counter = (step x directions + direction) x tensors + tensor. Counters go through a Weyl sequence
(an odd multiplier modulo 2^64), so two counters of one run never share a seed even on CPU, where
torch's Mersenne Twister keeps only the low 32 bits of a seed. Re-seeding costs 1 us, the noise
itself 8 ns per entry on one core of the development machine.

`iid` gives each tensor its own stream. `shape_correlated` seeds every tensor of a direction alike,
so that equal-shaped tensors share their noise: what the published code of arXiv:2509.24372 does
(VsonicV/es-fine-tuning-paper:countdown/es_fine-tuning_countdown.py), kept to reproduce it.

Noise is float32 and is drawn on the device of the tensor it is added to; a replay is bit-exact on
the same kind of device.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

Kind = Literal["iid", "shape_correlated"]
Vector = NDArray[np.float64]
_WEYL = 0x9E3779B97F4A7C15
_MASK = 2**64 - 1


class Noise(NamedTuple):
    """All noise of one step; nothing is drawn until asked for."""

    key: int
    """Seed of the run's noise."""
    step: int
    directions: int
    """Distinct directions: the population, or half of it with antithetic pairs."""
    kind: Kind = "iid"


class Direction(NamedTuple):
    """What a member of the population adds: `sign` x sigma x noise of `direction`."""

    direction: int
    sign: float


def seed(key: int, counter: int) -> int:
    """The generator's seed for one counter; injective modulo 2^32 in the counter."""
    return (key + counter * _WEYL) & _MASK


def fill(out: torch.Tensor, noise: Noise, direction: int, tensor: int, tensors: int) -> None:
    """Overwrite `out` (float32) with standard normal noise of one direction and tensor."""
    import torch

    place = 0 if noise.kind == "shape_correlated" else tensor
    counter = (noise.step * noise.directions + direction) * tensors + place
    value = seed(noise.key, counter)
    generator = torch.Generator(device=out.device).manual_seed(value)
    out.normal_(generator=generator)


def members(population: int, antithetic: bool) -> list[Direction]:
    """Directions and signs of the members; pairs (2j, 2j+1) share direction j if antithetic."""
    if antithetic:
        return [Direction(member // 2, 1.0 - 2.0 * (member % 2)) for member in range(population)]
    return [Direction(member, 1.0) for member in range(population)]


def net_weights(weights: Vector, population: Sequence[Direction]) -> Vector:
    """Net coefficient of each distinct direction: the signed sum over the members that use it."""
    total = np.zeros(1 + max(member.direction for member in population))
    for weight, member in zip(weights, population, strict=True):
        total[member.direction] += member.sign * weight
    return total


def z_scores(fitness: Vector) -> Vector:
    """Fitness minus its mean over the population sd (ddof 0, plus 1e-8); zeros if all are equal.

    >>> [round(float(z), 6) for z in z_scores(np.array([1.0, 2.0, 3.0, 4.0]))]
    [-1.341641, -0.447214, 0.447214, 1.341641]
    """
    if np.ptp(fitness) == 0:
        return np.zeros_like(fitness)
    scores: Vector = (fitness - fitness.mean()) / (fitness.std() + 1e-8)
    return scores


def null_squared_step(dimensions: int, rate: float, weights: Vector, population: int) -> float:
    """Expected squared length of one update if fitness has nothing to do with the noise.

    d (alpha / N)^2 sum_j w_j^2 over distinct directions j (METHODS 14, derived). Zero where the
    weights are zero; with antithetic pairs between one and two times alpha^2 d / N.
    """
    return float(dimensions * (rate / population) ** 2 * np.square(weights).sum())
