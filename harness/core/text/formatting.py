"""Numbers and words as a person reads them; the only place where anything is rounded for display.

Pure functions of one value. A missing value is a dash, a negative one has a real minus sign.
"""

from __future__ import annotations

from collections.abc import Iterable

from retainbench.harness.core.changes import Interval

NONE = "—"
MINUS = "−"


def points(interval: Interval | None) -> str:
    """`+12.3 [8.1, 16.4]`: a share in percentage points with its interval.

    >>> points(Interval(value=-0.0321, low=-0.05, high=0.0001, level=0.9, n=9, method="t"))
    '−3.2 [−5.0, 0.0]'
    """
    if interval is None:
        return NONE
    low, high = (signed(100 * limit, plus=False) for limit in (interval.low, interval.high))
    return f"{signed(100 * interval.value)} [{low}, {high}]"


def nats(interval: Interval | None) -> str:
    """`+0.012 [0.008, 0.016]`: a change in nats with its interval.

    >>> nats(Interval(value=0.0321, low=-0.001, high=0.07, level=0.9, n=9, method="t"))
    '+0.032 [−0.001, 0.070]'
    """
    if interval is None:
        return NONE
    low, high = (f"{limit:.3f}".replace("-", MINUS) for limit in (interval.low, interval.high))
    return f"{interval.value:+.3f} [{low}, {high}]".replace("-", MINUS)


def bounded(value: float | None, interval: Interval | None) -> str:
    """`0.012 [0.01, 0.014]`: two significant digits, with the interval where there is one.

    >>> bounded(0.0123, None), bounded(None, None)
    ('0.012', '—')
    """
    if value is None or interval is None:
        return brief(value)
    return f"{brief(value)} [{brief(interval.low)}, {brief(interval.high)}]"


def signed(value: float, plus: bool = True) -> str:
    """One decimal with a real minus sign; zero has no sign.

    Sums of shares that are halfway between two decimals print alike, whatever the order they were
    added in, which follows the number of threads.

    >>> signed(1.25), signed(-0.04)
    ('+1.2', '0.0')
    >>> signed(17.950000000000003) == signed(17.949999999999996)
    True
    """
    text = f"{round(value, 9):.1f}"
    if float(text) == 0:
        return "0.0"
    return text.replace("-", MINUS) if value < 0 else ("+" if plus else "") + text


def brief(value: float | None, scale: float = 1, unit: str = "") -> str:
    """Two significant digits, or a dash for a missing value.

    >>> brief(0.0321, 100, " %"), brief(0.000004), brief(152.0), brief(1.0), brief(None)
    ('3.2 %', '4e-06', '150', '1.0', '—')
    """
    if value is None:
        return NONE
    scaled = float(f"{value * scale:.2g}")
    digits = 0 if abs(scaled) >= 10 else 1
    text = f"{scaled:.{digits}f}" if abs(scaled) >= 1 or scaled == 0 else f"{scaled:g}"
    return text.replace("-", MINUS, 1) + unit if scaled < 0 else text + unit


def flops(value: float) -> str:
    """`3.0 TFLOP` and the like.

    >>> flops(3e12), flops(4.5e8)
    ('3.0 TFLOP', '450 MFLOP')
    """
    for factor, prefix in ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M")):
        if value >= factor:
            scaled = value / factor
            return f"{scaled:.1f} {prefix}FLOP" if scaled < 10 else f"{scaled:.0f} {prefix}FLOP"
    return f"{value:.0f} FLOP"


def duration(seconds: float) -> str:
    """Wall time in the largest unit that keeps two digits.

    >>> duration(31.4), duration(600), duration(90000)
    ('31 s', '10 min', '25 h')
    """
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"


def counted(number: int, noun: str) -> str:
    """`1 seed`, `2 seeds`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def listed(values: Iterable[object]) -> str:
    """Distinct values in order of appearance, separated by commas."""
    return ", ".join(dict.fromkeys(str(value) for value in values))


def clipped(text: str, limit: int = 160) -> str:
    """One line of at most `limit` characters; says so when it cuts."""
    line = " ".join(text.split())
    return line if len(line) <= limit else f"{line[: limit - 1]}…"


def significant(value: float, digits: int = 6) -> float:
    """A number to some significant digits, so that every format of a table starts from equal ones.

    >>> significant(0.123456789)
    0.123457
    """
    return float(f"{value:.{digits}g}")
