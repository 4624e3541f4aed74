"""Decision making: act before a drifting quantity leaves its allowed band, and not too early.

`python tasks/target/ts_decision/build.py` writes the splits. The rule is part of the question: the
last step repeats, and the action counters the side on which the band is left, now when the next
value leaves it, soon when the one after that does.
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
RULE = "Act now if the next value leaves the band, soon if the one after it does."
WHEN = ("now", "now", "soon", "soon", "never")
"""Drawn evenly, with the side, so that each of the five answers is right equally often."""


def problem(rng: Random) -> tuple[Question, dict[str, object]]:
    """Four values, a band, five answers."""
    opening, high, low, stay = rng.choice(STORIES)
    start, step, side = rng.randint(45, 75), rng.randint(1, 6), rng.choice((-1, 1))
    values = [start + side * step * i for i in range(4)]
    when = rng.choice(WHEN)
    room = {"now": rng.randrange(step), "soon": step + rng.randrange(step)}
    near = values[3] + side * room.get(when, 2 * step + rng.randint(0, 3))
    far = near - side * rng.randint(step * 5 + 3, step * 5 + 13)
    bottom, top = sorted((near, far))
    answer = stay if when == "never" else f"{high if side > 0 else low} {when}"
    shown = ", ".join(str(value) for value in values)
    query = f"{opening} {shown}. It must stay in {bottom} to {top}. {RULE}"
    query += f" {high} now, {high} soon, {low} now, {low} soon or {stay}?"
    return Question(query, answer, (), answer), {}


def write_to(folder: Path) -> None:
    """Write the three splits into `folder`."""
    freeze_splits(folder, problem)


if __name__ == "__main__":
    write_to(Path(__file__).resolve().parent)
