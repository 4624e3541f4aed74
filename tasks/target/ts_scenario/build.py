"""Scenario understanding: name the process behind a short series of readings.

`python tasks/target/ts_scenario/build.py` writes the splits. Processes: a rise, a fall, a cycle, a
level shift, a single spike; each with a small bounded noise.
"""

from pathlib import Path
from random import Random

from retainbench.tasks._build import Question
from retainbench.tasks._splits import freeze_splits

NAMES = ("rise", "fall", "cycle", "shift", "spike")
LENGTH = 9


def series(rng: Random, name: str) -> list[int]:
    """LENGTH readings of the process `name`, in 0..99."""
    noise = [rng.randint(-1, 1) for _ in range(LENGTH)]
    level, step = rng.randint(35, 60), rng.randint(2, 4)
    if name in ("rise", "fall"):
        slope = step if name == "rise" else -step
        return [level + slope * i + noise[i] for i in range(LENGTH)]
    size = rng.choice([-1, 1]) * rng.randint(10, 25)
    if name == "cycle":
        period = rng.choice([2, 3])
        shape = [0, size, size // 2][:period]
        return [level + shape[i % period] + noise[i] for i in range(LENGTH)]
    place = rng.randint(2, LENGTH - 3)
    if name == "shift":
        return [level + (size if i >= place else 0) + noise[i] for i in range(LENGTH)]
    return [level + (size if i == place else 0) + noise[i] for i in range(LENGTH)]


def problem(rng: Random) -> tuple[Question, dict[str, object]]:
    """A series and the name of its process."""
    name = rng.choice(NAMES)
    values = ", ".join(str(value) for value in series(rng, name))
    query = f"A sensor reads {values}. Is this a rise, a fall, a cycle, a shift or a spike?"
    return Question(query, name, (), name), {}


def write_to(folder: Path) -> None:
    """Write the three splits into `folder`."""
    freeze_splits(folder, problem)


if __name__ == "__main__":
    write_to(Path(__file__).resolve().parent)
