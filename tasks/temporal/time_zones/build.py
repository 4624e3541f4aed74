"""Time zones: the time in a city that is some hours ahead of or behind another. Free form.

`python tasks/temporal/time_zones/build.py` writes items.jsonl. The difference is part of the
question, so the answer does not change with summer time.
"""

from pathlib import Path
from random import Random

from retainbench.tasks._build import Question, draw, freeze_free, listed, unique

CITIES = listed("Northport Eastfield Westbridge Southmere Lakeview Hilltown Riverside Oakham")


SHOTS = (
    (
        "Lakeview is 2 hours ahead of Oakham. It is 10:00 in Oakham. What time is it in Lakeview?",
        "12:00",
    ),
    (
        "Oakham is 3 hours behind Eastfield. It is 08:00 in Eastfield. What time is it in Oakham?",
        "05:00",
    ),
    (
        "Hilltown is 4 hours ahead of Lakeview. It is 22:00 in Lakeview."
        " What time is it in Hilltown?",
        "02:00",
    ),
)


def _digits(minutes: int) -> str:
    """Minutes since midnight as 05:15."""
    hour, minute = divmod(minutes % 1440, 60)
    return f"{hour:02d}:{minute:02d}"


def pool(rng: Random) -> list[Question]:
    """Every quarter of an hour of a day, 1..6 hours ahead or behind, with random cities."""
    questions = []
    for start in range(0, 24 * 60, 15):
        for shift in (s for s in range(-6, 7) if s):
            here, there = rng.sample(CITIES, 2)
            count = abs(shift)
            amount = f"{count} hour{'s' if count > 1 else ''}"
            relation = "ahead of" if shift > 0 else "behind"
            shown, gold = _digits(start), _digits(start + 60 * shift)
            query = f"{there} is {amount} {relation} {here}. It is {shown} in {here}."
            query += f" What time is it in {there}?"
            questions.append(Question(query, gold, (), relation, unit=shown))
    return unique(questions)


def frozen() -> list[Question]:
    """The questions of items.jsonl."""
    questions = [q for q in pool(Random("time_zones")) if (q.query, q.answer) not in SHOTS]
    return draw(questions, 300, Random("time_zones:draw"))


def write_to(folder: Path) -> None:
    """Write items.jsonl into `folder`."""
    freeze_free(folder, frozen())


if __name__ == "__main__":
    write_to(Path(__file__).resolve().parent)
