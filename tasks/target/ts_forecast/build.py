"""Event-aware forecasting: go on with a series, given what is about to happen.

`python tasks/target/ts_forecast/build.py` writes the splits. Processes: a trend or a cycle of
period 2 or 3. Events: none, a lasting change of level, or a change for the next value alone.
"""

from pathlib import Path
from random import Random

from retainbench.tasks._build import Question
from retainbench.tasks._splits import freeze_splits

EVENTS = (
    "Nothing else happens.",
    "From now on {size} more are sold each day.",
    "From now on {size} fewer are sold each day.",
    "A holiday adds {size} to the next day only.",
)


def series(rng: Random) -> list[int]:
    """Eight undisturbed values: six to show, two to forecast."""
    level = rng.randint(20, 50)
    if rng.random() < 0.5:
        step = rng.choice([-3, -2, -1, 1, 2, 3, 4, 5])
        return [level + step * i for i in range(8)]
    shape = [level, *(level + rng.choice([-8, -5, -3, 3, 5, 8]) for _ in range(rng.choice([1, 2])))]
    return [shape[i % len(shape)] for i in range(8)]


def problem(rng: Random) -> tuple[Question, dict[str, object]]:
    """Six values, an event, the next two values."""
    values, kind, size = series(rng), rng.randrange(4), rng.randint(1, 12)
    effect = ((0, 0), (size, size), (-size, -size), (size, 0))[kind]
    future = [values[6] + effect[0], values[7] + effect[1]]
    shown = ", ".join(str(value) for value in values[:6])
    event = EVENTS[kind].format(size=size)
    query = f"Daily sales were {shown}. {event} What are the next two values?"
    scale = max(*values[:6], *future) - min(*values[:6], *future)
    answer = ", ".join(str(value) for value in future)
    return Question(query, answer, (), f"event {kind}"), {"scale": max(scale, 1)}


def write_to(folder: Path) -> None:
    """Write the three splits into `folder`."""
    freeze_splits(folder, problem)


if __name__ == "__main__":
    write_to(Path(__file__).resolve().parent)
