"""The four questions of ts_reasoning, each made with its answer and its worked solution.

Reads the tracked table of target/ts_forecast_real for forecasts of real series; writes nothing. The
four options are two choices of each of two things (or a ladder of numbers), so that none of them
can be recognised without the series.
"""

import itertools
import json
from random import Random
from typing import NamedTuple

from retainbench.tasks._build import ladder
from retainbench.tasks.target.ts_forecast_real.build import BOUNDS, FACTS
from retainbench.tasks.target.ts_reasoning.series import (
    EVENTS,
    TRENDS,
    Domain,
    Parts,
    analysis,
    drawn,
    mean,
    precision,
    written,
)

LETTERS = "ABCD"
NAMES = ("rainfall", "river level", "load", "price", "traffic", "pressure", "humidity", "demand")
PRICE = Domain("price of electricity", "cents per kWh", "hour", "daily", 24, (20, 60), 1)
HISTORY, AHEAD, STRIDE = 64, 6, 2
"""Of real series: values shown, values asked for, steps from one window to the next."""


class Problem(NamedTuple):
    """A question with its answer and the thought that leads to it."""

    query: str
    answer: str
    thought: list[str]
    scale: float | None = None
    """Of a forecast: the range of the shown and the true values."""
    cluster: str = ""
    """What the problem shares with others; "" = nothing."""


def chosen(rng: Random, text: str, options: list[str], thought: list[str]) -> Problem:
    """Four options, the first of which is right; their order is drawn."""
    order = rng.sample(options, len(options))
    letter = LETTERS[order.index(options[0])]
    listed = "\n".join(f"{name}. {option}" for name, option in zip(LETTERS, order, strict=True))
    query = f"{text}\n{listed}\nAnswer with the letter of the right option."
    return Problem(query, letter, [*thought, f"So it is {letter}. {options[0]}"])


def shown(domain: Domain, values: list[float]) -> str:
    """A series as text, with what it measures and its precision."""
    return (
        f"The {domain.name} in {domain.unit}, one value per {domain.step}, {len(values)} values "
        f"with {precision(domain.decimals)}: {written(values, domain.decimals)}."
    )


def described(domain: Domain, trend: str, season: bool, event: str) -> str:
    """A scenario as an option."""
    step = domain.step
    course = {"rise": "grows steadily", "fall": "declines steadily", "none": "keeps its level"}
    happened = {
        "none": f"no {step} is unusual",
        "higher": f"something is added from one {step} on and remains",
        "lower": f"something is lost from one {step} on and does not return",
        "spike": f"one single {step} is far higher, the next one is normal again",
    }
    rhythm = f"with{'' if season else 'out'} a {domain.rhythm} rhythm"
    return f"It {course[trend]}, {rhythm}; {happened[event]}."


def scenario(rng: Random) -> Problem:
    """Task 1: which scenario made a series; two of trend, season and event vary."""
    parts = drawn(rng)
    trends = [parts.trend, rng.choice([t for t in TRENDS if t != parts.trend])]
    seasons = [parts.amplitude > 0, parts.amplitude == 0]
    events = [parts.event, rng.choice([e for e in EVENTS if e != parts.event])]
    fixed = (trends, seasons, events)[rng.randrange(3)]
    del fixed[1:]
    options = [
        described(parts.domain, *option) for option in itertools.product(trends, seasons, events)
    ]
    values = parts.values(rng)
    text = f"{shown(parts.domain, values)}\nWhich scenario fits this series?"
    return chosen(rng, text, options, analysis(parts, values))


def causality(rng: Random) -> Problem:
    """Task 2: which of two series drives the other, and after how many steps."""
    lag, other = rng.sample(range(1, 7), 2)
    length = rng.randint(64, 110)
    causes = list(
        itertools.accumulate([rng.randint(9, 12)] + [rng.randint(10, 14) for _ in range(3)])
    )
    effects = [place + lag for place in causes]
    driver, driven = rng.sample(NAMES, 2)
    made = {driver: _jumping(rng, length, causes), driven: _jumping(rng, length, effects)}
    text = "\n".join(
        f"The {name}, one value per hour, {length} values with 1 decimal: {written(made[name], 1)}."
        for name in sorted(made)
    )
    options = [
        f"The {a} drives the {b} after {hours} hours."
        for hours in (lag, other)
        for a, b in ((driver, driven), (driven, driver))
    ]
    thought = [
        f"The {driver} jumps at hours {', '.join(map(str, causes))}.",
        f"The {driven} jumps at hours {', '.join(map(str, effects))}.",
        f"Each jump of the {driven} is {lag} hours after one of the {driver}.",
    ]
    return chosen(rng, f"{text}\nWhich statement is true?", options, thought)


def _jumping(rng: Random, length: int, places: list[int]) -> list[float]:
    """A level that jumps up or down at the places, with bounded noise."""
    level, values = float(rng.randint(40, 60)), []
    for place in range(1, length + 1):
        if place in places:
            level += rng.choice([-1, 1]) * rng.uniform(6, 12)
        values.append(round(level + rng.uniform(-1, 1), 1))
    return values


def forecast(rng: Random) -> Problem:
    """Task 3: the next values, given an announced event; the truth is without noise."""
    parts = drawn(rng, event="none")
    domain, ahead = parts.domain, rng.randint(6, 12)
    start = rng.randint(2, ahead - 2)
    change = rng.choice([-1, 1]) * round(parts.level * rng.uniform(0.2, 0.4), domain.decimals)
    values = parts.values(rng)
    plain = [parts.expected(parts.length + n) for n in range(1, ahead + 1)]
    future = [
        round(value + change * (n >= start), domain.decimals) for n, value in enumerate(plain, 1)
    ]
    event = (
        f"From {domain.step} {start} of the forecast on, {abs(change):.{domain.decimals}f} "
        f"{domain.unit} will be {'added' if change > 0 else 'missing'}."
    )
    text = f"{shown(domain, values)}\n{event} What are the next {ahead} values?"
    thought = [
        *analysis(parts, values),
        f"Without the event: {written(plain, domain.decimals)}.",
        f"With {change:+.{domain.decimals}f} from {domain.step} {start} on.",
    ]
    return _forecast(text, values, future, domain.decimals, thought)


def _forecast(
    text: str, values: list[float], future: list[float], decimals: int, thought: list[str]
) -> Problem:
    query = f"{text} Answer with a list of {len(future)} values with {precision(decimals)}."
    scale = max(*values, *future) - min(*values, *future)
    return Problem(query, f"[{written(future, decimals)}]", thought, round(scale, decimals))


def real_forecasts(split: str) -> list[Problem]:
    """Task 3 on real series: every window whose asked values are in the split's part of time."""
    low, high = BOUNDS[split]
    problems = []
    for line in FACTS.read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        name, values = entry["name"], [float(value) for value in entry["values"]]
        first, end = max(round(low * len(values)), HISTORY), round(high * len(values)) - AHEAD
        for place in range(first, end + 1, STRIDE):
            history, future = values[place - HISTORY : place], values[place : place + AHEAD]
            text = f"{name}, {HISTORY} values: {written(history, 0)}."
            text += f" What are the next {AHEAD} values?"
            problem = _forecast(text, history, future, 0, _looked_back(name, history, future))
            problems.append(problem._replace(cluster=f"{name}:{place // HISTORY}"))
    return problems


def _looked_back(name: str, history: list[float], future: list[float]) -> list[str]:
    period = {"Monthly": 12, "Quarterly": 4}.get(name.split()[0], 11)
    before, ago = history[-period:], history[-2 * period : -period]
    lines = [
        f"Mean of the last {period} values: {mean(before):.1f}; of the {period} before: "
        f"{mean(ago):.1f}; so about {mean(before) - mean(ago):+.1f} from span to span.",
        f"The last value is {history[-1]:.0f}.",
    ]
    if period > len(future):
        lines.append(f"One span earlier these steps were {written(before[: len(future)], 0)}.")
    return lines


def decision(rng: Random) -> Problem:
    """Task 4: what to do, given a series: when to charge a battery, or how much to order."""
    return battery(rng) if rng.random() < 0.5 else order(rng)


def battery(rng: Random) -> Problem:
    """Which hours to charge and to discharge, of two each; the price has a daily rhythm."""
    level, peak = float(rng.randint(*PRICE.level)), rng.randint(1, 24)
    parts = Parts(
        PRICE, 24 * rng.randint(4, 8), level, "none", 0.0, level * 0.3, peak, "none", 2, 0.0
    )
    values = parts.values(rng)
    low, high = (peak + 11) % 24 + 1, peak
    windows = [low, (low + rng.choice([5, 7, 17, 19]) - 1) % 24 + 1]
    dear = [high, (high + rng.choice([5, 7, 17, 19]) - 1) % 24 + 1]
    options = [
        f"Charge in hour {a} and discharge in hour {b} of every day."
        for a, b in itertools.product(windows, dear)
    ]
    profile = {h: mean(values[h - 1 :: 24]) for h in (*windows, *dear)}
    thought = [
        "Mean price by hour of the day: "
        + "; ".join(f"hour {hour}: {price:.1f}" for hour, price in profile.items())
        + ".",
        f"Of {windows[0]} and {windows[1]}, hour {windows[0]} is cheaper; of {dear[0]} and "
        f"{dear[1]}, hour {dear[0]} is dearer.",
    ]
    text = (
        f"{shown(PRICE, values)} The first value is hour 1 of a day.\nA battery is charged in one "
        "hour of each day and discharged in another one. Which plan earns most?"
    )
    return chosen(rng, text, options, thought)


def order(rng: Random) -> Problem:
    """How many units to order for the next steps, of four numbers; the series has a trend."""
    parts = drawn(rng, trend=rng.choice(["rise", "fall"]), season=False, event="none")
    ahead, values = parts.domain.period, parts.values(rng)
    need = round(sum(parts.expected(parts.length + n) for n in range(1, ahead + 1)))
    amounts = (need, *ladder(rng, need, max(1, round(0.12 * need))))
    thought = [
        *analysis(parts, values),
        f"The next {ahead} values are about {parts.expected(parts.length + 1):.2f} to "
        f"{parts.expected(parts.length + ahead):.2f}, together {need}.",
    ]
    text = (
        f"{shown(parts.domain, values)}\nCapacity for the next {ahead} {parts.domain.step}s has to "
        "be ordered now, as much as they will need together and no more. How much?"
    )
    return chosen(rng, text, [f"Order {amount}." for amount in amounts], thought)
