"""Months, weekdays and dates as a free-form task.

`python tasks/temporal/calendar_free/build.py` writes items.jsonl from the calendar pool.
"""

from pathlib import Path
from random import Random

from retainbench.tasks._build import Question, draw, freeze_free
from retainbench.tasks.temporal.calendar.build import frozen as choices
from retainbench.tasks.temporal.calendar.build import pool as calendar_pool

SHOTS = (
    ("Which month is 2 months after January?", "March"),
    ("Which day comes right after Saturday?", "Sunday"),
    ("Which is the fifth month of the year?", "May"),
    ("Which month comes right before May?", "April"),
    ("Which date is 2 days after 4 May?", "6 May"),
)
ASKED = {
    "month steps": 70,
    "day steps": 36,
    "month neighbours": 22,
    "day neighbours": 12,
    "month numbers": 10,
    "date steps": 160,
}
"""Families of temporal/calendar that have one short answer, and how many are asked at most."""


def pool(rng: Random) -> list[Question]:
    """Questions of temporal/calendar that have one short answer; none of its items about dates."""
    taken = {q.query for q in choices() if q.family == "date steps"}
    return [
        q
        for q in calendar_pool(rng, 800)
        if q.family in ASKED and "counted" not in q.query and q.query not in taken
    ]


def frozen() -> list[Question]:
    """The questions of items.jsonl."""
    rng = Random("calendar_free")
    questions = [q for q in pool(rng) if (q.query, q.answer) not in SHOTS]
    return [
        q
        for family, count in ASKED.items()
        for q in draw([p for p in questions if p.family == family], count, rng)
    ]


def write_to(folder: Path) -> None:
    """Write items.jsonl into `folder`."""
    freeze_free(folder, frozen())


if __name__ == "__main__":
    write_to(Path(__file__).resolve().parent)
