"""Months and weekdays as a free-form task.

`python tasks/temporal/calendar_free/build.py` writes items.jsonl from the calendar pool.
"""

from pathlib import Path
from random import Random

from retainbench.tasks._build import Question, draw, freeze_free
from retainbench.tasks.temporal.calendar.build import pool as calendar_pool

SHOTS = (
    ("Which month is 2 months after January?", "March"),
    ("Which day comes right after Saturday?", "Sunday"),
    ("Which is the fifth month of the year?", "May"),
    ("Which month comes right before May?", "April"),
    ("Which day is 2 days before Friday?", "Wednesday"),
)
ASKED = ("month steps", "day steps", "month neighbours", "day neighbours", "month numbers")


def pool(rng: Random) -> list[Question]:
    """The questions of temporal/calendar that have one short answer."""
    return [q for q in calendar_pool(rng) if q.family in ASKED and "counted" not in q.query]


def frozen() -> list[Question]:
    """The questions of items.jsonl."""
    questions = [q for q in pool(Random("calendar_free")) if (q.query, q.answer) not in SHOTS]
    return draw(questions, 200, Random("calendar_free:draw"))


def write_to(folder: Path) -> None:
    """Write items.jsonl into `folder`."""
    freeze_free(folder, frozen())


if __name__ == "__main__":
    write_to(Path(__file__).resolve().parent)
