"""Series of ts_reasoning: trend, season, events, bounded noise, and the analysis of them.

Reads and writes nothing. Positions count from 1, as the analysis and the questions do. Strengths
are drawn so that a part is either plainly there or absent: what is asked has one answer.
"""

import math
from dataclasses import dataclass
from random import Random

TRENDS = {"rise": 1, "none": 0, "fall": -1}
EVENTS = ("none", "higher", "lower", "spike")


@dataclass(frozen=True)
class Domain:
    """What a series measures."""

    name: str
    unit: str
    step: str
    rhythm: str
    period: int
    """Steps of one rhythm."""
    level: tuple[int, int]
    decimals: int


DOMAINS = (
    Domain("electricity load of a district", "MW", "hour", "daily", 24, (40, 90), 1),
    Domain("visits of a web site", "thousand visits", "hour", "daily", 24, (20, 60), 2),
    Domain("vehicles at a road counter", "vehicles", "hour", "daily", 24, (300, 900), 0),
    Domain("sales of a shop", "thousand euros", "day", "weekly", 7, (15, 40), 2),
    Domain("calls to a help desk", "calls", "day", "weekly", 7, (200, 600), 0),
    Domain("passengers of an airline", "thousand passengers", "month", "yearly", 12, (80, 200), 1),
)


@dataclass(frozen=True)
class Parts:
    """What a series consists of."""

    domain: Domain
    length: int
    level: float
    trend: str
    slope: float
    """Change a step."""
    amplitude: float
    peak: int
    """Step of the rhythm, from 1, at which it is highest."""
    event: str
    place: int
    """Position from which the event acts; a spike is there alone."""
    size: float

    def expected(self, position: int) -> float:
        """The value without noise."""
        angle = 2 * math.pi * (position - self.peak) / self.domain.period
        value = self.level + self.slope * (position - 1) + self.amplitude * math.cos(angle)
        if self.event == "spike":
            return value + self.size * (position == self.place)
        sign = {"none": 0, "higher": 1, "lower": -1}[self.event]
        return value + sign * self.size * (position >= self.place)

    def values(self, rng: Random) -> list[float]:
        """The series, with noise of at most 2 % of the level."""
        noise = 0.02 * self.level
        return [
            round(self.expected(place) + rng.uniform(-noise, noise), self.domain.decimals)
            for place in range(1, self.length + 1)
        ]


def drawn(
    rng: Random, *, trend: str | None = None, season: bool | None = None, event: str | None = None
) -> Parts:
    """Parts of a series of 64 to 256 values; what is not given is drawn."""
    domain = rng.choice(DOMAINS)
    level = float(rng.randint(*domain.level))
    length = rng.randint(64, 256)
    trend = rng.choice(list(TRENDS)) if trend is None else trend
    season = rng.random() < 0.5 if season is None else season
    return Parts(
        domain=domain,
        length=length,
        level=level,
        trend=trend,
        slope=TRENDS[trend] * level * rng.uniform(0.3, 0.5) / length,
        amplitude=level * rng.uniform(0.12, 0.2) if season else 0.0,
        peak=rng.randint(1, domain.period),
        event=rng.choice(EVENTS) if event is None else event,
        place=rng.randint(length * 2 // 5, length * 3 // 5),
        size=level * rng.uniform(0.5, 0.7),
    )


def written(values: list[float], decimals: int) -> str:
    """Values with their stated number of decimals."""
    return ", ".join(f"{value:.{decimals}f}" for value in values)


def precision(decimals: int) -> str:
    """How many decimals values have, in words."""
    return f"{decimals or 'no'} decimal{'' if decimals == 1 else 's'}"


def mean(values: list[float]) -> float:
    """Arithmetic mean."""
    return sum(values) / len(values)


def analysis(parts: Parts, values: list[float]) -> list[str]:
    """The decomposition as sentences: means of whole rhythms, highest step, events."""
    domain, width = parts.domain, parts.domain.period
    first, last = mean(values[:width]), mean(values[-width:])
    lines = [
        f"Mean of the first {width} values: {first:.2f}; of the last {width}: {last:.2f}.",
        _trend(parts),
    ]
    if parts.amplitude:
        lines.append(
            f"Season: the values repeat every {width} {domain.step}s, highest at step {parts.peak} "
            f"of each, {parts.amplitude:.2f} above the middle."
        )
    else:
        lines.append(f"Season: no pattern repeats every {width} {domain.step}s.")
    return [*lines, _event(parts, values)]


def _trend(parts: Parts) -> str:
    if parts.trend == "none":
        return "Trend: none, apart from events and season the level is the same throughout."
    return f"Trend: apart from events and season {parts.slope:+.3f} per {parts.domain.step}."


def _event(parts: Parts, values: list[float]) -> str:
    place, step = parts.place, parts.domain.step
    if parts.event == "none":
        return f"Events: none; no {step} departs from the pattern."
    pair = f"{step} {place - 1} has {values[place - 2]:g}, {step} {place} has {values[place - 1]:g}"
    if parts.event == "spike":
        return f"Events: {pair}, and {step} {place + 1} is back at {values[place]:g}: one spike."
    return f"Events: {pair}, and it stays {parts.size:.2f} {parts.event} from there on."
