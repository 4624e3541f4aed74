"""Months and weekdays: their order, steps forward and back, distances.

`python tasks/temporal/calendar/build.py` writes items.jsonl. Every family is a closed table, so a
base knows it by heart or not at all.
"""

from pathlib import Path
from random import Random

from retainbench.tasks._build import Question, among, continued, freeze_choices, listed, unique

MONTHS = listed("""January February March April May June July August September October November
December""")
DAYS = listed("Monday Tuesday Wednesday Thursday Friday Saturday Sunday")
ORDINALS = listed("""first second third fourth fifth sixth seventh eighth ninth tenth eleventh
twelfth""")
LENGTHS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


FROZEN = ("month steps", "month neighbours", "day neighbours", "month numbers")
"""Families of `pool` that are asked; the others were below chance for SmolLM2-135M."""
SHOTS = (
    ("Which month is 2 months after January?", "March"),
    ("Which day comes right after Saturday?", "Sunday"),
    ("Which is the fifth month of the year?", "May"),
    ("What comes next: June, July, August?", "September"),
    ("Which month is between September and November?", "October"),
)


def steps(rng: Random, names: list[str], unit: str, far: int) -> list[Question]:
    """Which month is two months after March? for every start and up to `far` steps each way."""
    questions = []
    for place, start in enumerate(names):
        for distance in (d for d in range(-far, far + 1) if d):
            gold = names[(place + distance) % len(names)]
            count = abs(distance)
            amount = f"{count} {unit}{'s' if count > 1 else ''}"
            relation = "after" if distance > 0 else "before"
            query = f"Which {unit} is {amount} {relation} {start}?"
            told = (f"{amount.capitalize()} {relation} {start} is {gold}.",)
            questions.append(
                Question(query, gold, among(rng, gold, names), f"{unit} steps", told, unit=start)
            )
    return questions


def neighbours(rng: Random, names: list[str], unit: str) -> list[Question]:
    """Which day comes right after Monday?"""
    questions = []
    for place, start in enumerate(names):
        for offset, relation in ((1, "after"), (-1, "before")):
            gold = names[(place + offset) % len(names)]
            query = f"Which {unit} comes right {relation} {start}?"
            told = (f"{start} is followed by {names[(place + 1) % len(names)]}.",)
            questions.append(
                Question(
                    query, gold, among(rng, gold, names), f"{unit} neighbours", told, unit=start
                )
            )
    return questions


def ordinals(rng: Random) -> list[Question]:
    """Which is the fifth month of the year? and back."""
    questions = []
    for month, ordinal in zip(MONTHS, ORDINALS, strict=True):
        told = (f"{month} is the {ordinal} month of the year.",)
        forward = f"Which is the {ordinal} month of the year?"
        back = f"Which month of the year is {month}, counted from January?"
        questions.append(
            Question(forward, month, among(rng, month, MONTHS), "month numbers", told, unit=month)
        )
        questions.append(
            Question(back, f"the {ordinal}", _the(rng, ordinal), "month numbers", told, unit=month)
        )
    return questions


def _the(rng: Random, ordinal: str) -> tuple[str, ...]:
    return tuple(f"the {other}" for other in among(rng, ordinal, ORDINALS))


def distances(rng: Random) -> list[Question]:
    """How many months is it from March to June?"""
    questions = []
    texts = [f"{count} month{'s' if count > 1 else ''}" for count in range(1, 12)]
    for place, start in enumerate(MONTHS):
        for count in range(1, 12):
            end = MONTHS[(place + count) % 12]
            gold = texts[count - 1]
            query = f"How long is it from {start} to the next {end}?"
            told = (f"From {start} to the next {end} it is {gold}.",)
            questions.append(
                Question(query, gold, among(rng, gold, texts), "month distances", told, unit=start)
            )
    return questions


def lengths(rng: Random) -> list[Question]:
    """Which of these months has 30 days? One choice has the length asked for, three have not."""
    questions = []
    for days in (30, 31):
        have = [m for m, n in zip(MONTHS, LENGTHS, strict=True) if n == days]
        have_not = [m for m, n in zip(MONTHS, LENGTHS, strict=True) if n != days]
        for gold in have:
            wrong = rng.sample(have_not, 3)
            shown = sorted([gold, *wrong], key=lambda _: rng.random())
            query = f"Which of the months {', '.join(shown[:3])} and {shown[3]} has {days} days?"
            told = (f"{gold} has {days} days.",)
            questions.append(Question(query, gold, tuple(wrong), "month lengths", told, unit=gold))
    return questions


def pool(rng: Random) -> list[Question]:
    """All families in full."""
    return unique(
        [
            *steps(rng, MONTHS, "month", 4),
            *steps(rng, DAYS, "day", 3),
            *neighbours(rng, MONTHS, "month"),
            *neighbours(rng, DAYS, "day"),
            *ordinals(rng),
            *distances(rng),
            *lengths(rng),
        ]
    )


def between(rng: Random, names: list[str], unit: str) -> list[Question]:
    """Which month is between March and May?"""
    questions = []
    for place, gold in enumerate(names):
        before, after = names[place - 1], names[(place + 1) % len(names)]
        others = [name for name in names if name not in (before, after)]
        query = f"Which {unit} is between {before} and {after}?"
        wrong = among(rng, gold, others)
        questions.append(Question(query, gold, wrong, f"{unit} between", unit=gold))
    return questions


def seasons() -> list[Question]:
    """Which season is July in, north of the equator?"""
    names = ("winter", "spring", "summer", "autumn")
    questions = []
    for place, month in enumerate(MONTHS):
        gold = names[(place + 1) % 12 // 3]
        wrong = tuple(name for name in names if name != gold)
        query = f"Which season is {month} in, north of the equator?"
        questions.append(Question(query, gold, wrong, "season", unit=month))
    return questions


def easy_pool(rng: Random) -> list[Question]:
    """Families that SmolLM2-135M answers too; the corpus has them in its second phase."""
    runs = [q for shown in (2, 3, 4) for q in continued(rng, MONTHS, shown, "month run")]
    runs += [q for shown in (2, 3) for q in continued(rng, DAYS, shown, "day run")]
    return unique([*runs, *between(rng, MONTHS, "month"), *between(rng, DAYS, "day"), *seasons()])


def frozen() -> list[Question]:
    """The questions of items.jsonl."""
    chosen = [q for q in pool(Random("calendar")) if q.family in FROZEN]
    near = [
        q for q in chosen if q.family != "month steps" or " is 1 " in q.query or " is 2 " in q.query
    ]
    questions = [*near, *easy_pool(Random("calendar:easy"))]
    return [q for q in unique(questions) if (q.query, q.answer) not in SHOTS]


def write_to(folder: Path) -> None:
    """Write items.jsonl into `folder`."""
    freeze_choices(folder, frozen())


if __name__ == "__main__":
    write_to(Path(__file__).resolve().parent)
