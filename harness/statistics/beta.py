"""The incomplete beta function and Student's t, without scipy (which is larger than all the rest).

I_x(a, b) is a prefactor times a continued fraction, on the side of the mean where that converges
(Abramowitz and Stegun 26.5.8); the prefactor follows DiDonato and Morris (1992, ACM TOMS 18:360),
which keeps its digits for large a and b. Numbers or arrays of one shape; a and b positive, up to
10^7. Relative error against scipy below 1e-11 (tests/statistics/test_beta.py).
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from retainbench.harness.statistics.paired import Floats, normal_quantile

LARGE = 10.0
"""From here on Stirling's series has all digits."""
SERIES = (1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188, -691 / 360360, 1 / 156, -3617 / 122400)
MANY = 1e4
"""Degrees of freedom from which the fourth term of the expansion is below rounding."""
MOST_STEPS = 100
SETTLED = 1e-11
"""Relative step after which Halley's next one would be below rounding."""
log_gamma = np.vectorize(math.lgamma, otypes=[np.float64])
"""ln Gamma of each of an array's numbers."""


class Tails(NamedTuple):
    """I_x(a, b) and what it leaves; each keeps its digits where it is small."""

    lower: Any
    upper: Any


def tails(a: Any, b: Any, x: Any, y: Any) -> Tails:
    """I_x(a, b) and 1 - I_x(a, b).

    Args:
        y: 1 - x, given apart because it has more digits than the difference where x is near 1.

    >>> round(float(tails(2.0, 3.0, 0.4, 0.6).lower), 12)
    0.5248
    """
    a, b, x, y = np.broadcast_arrays(*(np.asarray(one, np.float64) for one in (a, b, x, y)))
    left = x <= (a + 1) / (a + b + 2)
    near = _near(*(np.where(left, one, other) for one, other in ((a, b), (b, a), (x, y), (y, x))))
    return Tails(np.where(left, near, 1 - near), np.where(left, 1 - near, near))


def quantile(a: Any, b: Any, probability: float) -> Floats:
    """The x with I_x(a, b) = probability.

    >>> round(float(quantile(1.0, 59.0, 0.95)), 6)
    0.049508
    """
    a, b = np.broadcast_arrays(np.asarray(a, np.float64), np.asarray(b, np.float64))
    low, high, done = np.zeros(a.shape), np.ones(a.shape), np.zeros(a.shape, bool)
    x = np.clip(_start(a, b, probability), 1e-300, 1 - 1e-16)
    for _ in range(MOST_STEPS):
        found = tails(a, b, x, 1 - x)
        # Of the smaller tail, which has the digits.
        error = np.where(
            found.lower <= found.upper,
            found.lower - probability,
            (1 - probability) - found.upper,
        )
        low, high = np.where(error <= 0, x, low), np.where(error > 0, x, high)
        density = np.exp(_log_power(a, b, x, 1 - x)) / (x * (1 - x))
        with np.errstate(divide="ignore", invalid="ignore"):
            newton = error / density
            bend = (a - 1) / x - (b - 1) / (1 - x)
            after = x - newton / (1 - 0.5 * np.minimum(1.0, newton * bend))
        settled = np.abs(after - x) <= SETTLED * x
        inside = (after >= low) & (after <= high)
        after = np.where(inside | settled, after, (low + high) / 2)
        x = np.where(done, x, after)
        done |= settled
        if done.all():
            break
    return x


def t_upper(statistic: float, degrees: float) -> float:
    """P(T >= statistic) for Student's t.

    >>> round(t_upper(2.353363434801824, 3), 12)
    0.05
    """
    square = statistic * statistic
    x, y = degrees / (degrees + square), square / (degrees + square)
    if not x:
        return 0.0 if statistic > 0 else 1.0
    a = degrees / 2
    near = _near(a, 0.5, x, y) if x <= (a + 1) / (a + 2.5) else 1 - _near(0.5, a, y, x)
    half = float(near) / 2
    return half if statistic >= 0 else 1 - half


@lru_cache(maxsize=65536)
def t_point(tail: float, degrees: float) -> float:
    """The t with P(T >= t) = tail, for a tail of at most one half."""
    if tail == 0.5:
        return 0.0
    if degrees >= MANY:
        return _expanded(normal_quantile(1 - tail), degrees)
    low, high, t = 0.0, math.inf, normal_quantile(1 - tail)
    scale = math.exp(math.lgamma((degrees + 1) / 2) - math.lgamma(degrees / 2))
    for _ in range(MOST_STEPS):
        ratio = t_upper(t, degrees) / tail
        low, high = (t, high) if ratio > 1 else (low, t)
        log_density = -(degrees + 1) / 2 * math.log1p(t * t / degrees)
        density = scale / math.sqrt(math.pi * degrees) * math.exp(log_density)
        after = t + math.log(ratio) * ratio * tail / density
        if abs(after - t) <= SETTLED * t:
            return after
        if not low < after < high:
            after = 2 * t if math.isinf(high) else (low + high) / 2
        t = after
    return t


def _expanded(z: float, degrees: float) -> float:
    """Student's quantile from the normal one (Abramowitz and Stegun 26.7.5), for many degrees."""
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
    )
    return z + sum(term / degrees**power for power, term in enumerate(terms, start=1))


def _near(a: Any, b: Any, x: Any, y: Any) -> Any:
    """I_x(a, b) for x below the mean; numbers or arrays."""
    if all(np.ndim(one) == 0 for one in (a, b, x, y)):
        # The same doubles, without what NumPy adds to each operation: up to 9000 steps of ten.
        a, b, x, y = map(float, (a, b, x, y))
    steps = int(30 + 2 * math.sqrt(float(np.max(np.minimum(a + b, 1e7), initial=1.0))))
    rest = 0.0 * x
    for m in range(steps, 0, -1):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        rest = even / (1 + odd / (1 + rest))
    first = -(a + b) * x / (a + 1)
    return np.exp(_log_power(*map(np.asarray, (a, b, x, y)))) / a / (1 + first / (1 + rest))


def _log_power(a: Floats, b: Floats, x: Floats, y: Floats) -> Floats:
    """ln x^a y^b / B(a, b)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        both = (a >= LARGE) & (b >= LARGE)
        one = ((a >= LARGE) | (b >= LARGE)) & ~both
        found = np.zeros(a.shape)
        for mask, function in ((both, _both_large), (one, _one_large), (~both & ~one, _small)):
            if mask.any():
                found[mask] = function(a[mask], b[mask], x[mask], y[mask])
    return found


def _small(a: Floats, b: Floats, x: Floats, y: Floats) -> Floats:
    whole: Floats = log_gamma(a + b) - log_gamma(a) - log_gamma(b)
    return a * _log(x, y) + b * _log(y, x) + whole


def _one_large(a: Floats, b: Floats, x: Floats, y: Floats) -> Floats:
    large, small = np.maximum(a, b), np.minimum(a, b)
    ratio = (
        small * np.log(large)
        + (large + small - 0.5) * np.log1p(small / large)
        - small
        + _remainder(large + small)
        - _remainder(large)
    )
    whole: Floats = ratio - log_gamma(small)
    return a * _log(x, y) + b * _log(y, x) + whole


def _both_large(a: Floats, b: Floats, x: Floats, y: Floats) -> Floats:
    distance = np.where(x <= y, a - (a + b) * x, (a + b) * y - b)
    parts = [sign * distance / size for sign, size in ((-1, a), (1, b))]
    exponent = sum(size * (part - np.log1p(part)) for size, part in zip((a, b), parts, strict=True))
    correction = _remainder(a) + _remainder(b) - _remainder(a + b)
    scale = 0.5 * np.log(b * (a / (a + b)) / (2 * math.pi))
    found: Floats = scale - exponent - correction
    return found


def _remainder(x: Floats) -> Floats:
    """ln Gamma(x) - ((x - 1/2) ln x - x + ln sqrt(2 pi)), for large x."""
    inverse = 1 / (x * x)
    found: Floats = np.zeros(np.shape(x))
    for factor in reversed(SERIES):
        found = found * inverse + factor
    return found / x


def _log(x: Floats, y: Floats) -> Floats:
    """ln x, where y = 1 - x."""
    found: Floats = np.where(x < 0.5, np.log(x), np.log1p(-y))
    return found


def _start(a: Floats, b: Floats, probability: float) -> Floats:
    """Abramowitz and Stegun 26.5.22; from the powers at the ends where a or b is small."""
    small = (a < 1) | (b < 1)
    big_a, big_b = np.maximum(a, 1.0 + 1e-9), np.maximum(b, 1.0 + 1e-9)
    z = -normal_quantile(probability)
    curve = (z * z - 3) / 6
    harmonic = 2 / (1 / (2 * big_a - 1) + 1 / (2 * big_b - 1))
    difference = 1 / (2 * big_b - 1) - 1 / (2 * big_a - 1)
    w = z * np.sqrt(np.maximum(curve + harmonic, 1e-9)) / harmonic
    w = w - difference * (curve + 5 / 6 - 2 / (3 * harmonic))
    usual = big_a / (big_a + big_b * np.exp(np.clip(2 * w, -600, 600)))
    found: Floats = np.where(small, a / (a + b), usual)
    return found
