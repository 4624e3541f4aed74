"""Decision making: act before a drifting quantity leaves its allowed band.

`python tasks/target/ts_decision/build.py` writes the splits. The rule is part of the question: the
last step repeats, and the action that keeps the next value inside the band is right.
"""

from pathlib import Path
from random import Random

from retainbench.tasks._build import Question
from retainbench.tasks._splits import freeze_splits

STORIES = (
    ("A tank stood at", "drain", "fill", "rest"),
    ("A room was at", "cool", "heat", "hold"),
    ("The stock was at", "sell", "order", "wait"),
)


def problem(rng: Random) -> tuple[Question, dict[str, object]]:
    """Four values, a band, three actions."""
    opening, high, low, stay = rng.choice(STORIES)
    start, step, side = rng.randint(45, 75), rng.randint(1, 6), rng.choice((-1, 1))
    values = [start + side * step * i for i in range(4)]
    following = values[3] + side * step
    breaks = rng.random() < 0.67
    near = (
        following - side * rng.randint(1, step) if breaks else following + side * rng.randint(0, 3)
    )
    far = near - side * rng.randint(step * 4, step * 4 + 10)
    bottom, top = sorted((near, far))
    action = stay if bottom <= following <= top else (high if following > top else low)
    shown = ", ".join(str(value) for value in values)
    query = f"{opening} {shown}. It must stay in {bottom} to {top}. {high}, {low} or {stay}?"
    return Question(query, action, (), action), {}


def write_to(folder: Path) -> None:
    """Write the three splits into `folder`."""
    freeze_splits(folder, problem)


if __name__ == "__main__":
    write_to(Path(__file__).resolve().parent)
