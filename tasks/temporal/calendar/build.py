"""Months, weekdays and dates: their order, steps forward and back, distances.

`python tasks/temporal/calendar/build.py` writes items.jsonl. Questions about months and weekdays
are closed tables; those about days of the year are drawn, each from a start of its own.
"""

from pathlib import Path
from random import Random

from retainbench.tasks._build import (
    Question,
    among,
    continued,
    draw,
    freeze_choices,
    listed,
    unique,
)

MONTHS = listed("""January February March April May June July August September October November
December""")
DAYS = listed("Monday Tuesday Wednesday Thursday Friday Saturday Sunday")
ORDINALS = listed("""first second third fourth fifth sixth seventh eighth ninth tenth eleventh
twelfth""")
LENGTHS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


FROZEN = {
    "month steps": 36,
    "month neighbours": 24,
    "day neighbours": 14,
    "month numbers": 22,
    "month run": 30,
    "day run": 12,
    "month between": 12,
    "season": 10,
    "date steps": 120,
    "weekday of a date": 50,
}
"""Families that are asked, and how many at most; the others were below chance for SmolLM2-135M."""
SHOTS = (
    ("Which month is 2 months after January?", "March"),
    ("Which day comes right after Saturday?", "Sunday"),
    ("Which is the fifth month of the year?", "May"),
    ("What comes next: June, July, August?", "September"),
    ("Which date is 2 days after 4 May?", "6 May"),
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


def _day_after(month: int, day: int, count: int) -> tuple[int, int]:
    """Month (from 0) and day of the month, `count` days after or before, within one year."""
    moved = day + count
    if moved < 1:
        return month - 1, moved + LENGTHS[month - 1]
    return (month + 1, moved - LENGTHS[month]) if moved > LENGTHS[month] else (month, moved)


def _start(rng: Random) -> tuple[int, int, int]:
    """A month, a day and a step of 1..6 days either way that meets no leap day and no new year."""
    while True:
        month, day = rng.randrange(12), rng.randint(1, 28)
        count = rng.choice([-1, 1]) * rng.randint(1, 6)
        if (month, count < 0) not in ((1, False), (2, True), (11, False), (0, True)) or (
            1 <= day + count <= 28
        ):
            return month, day, count


def _amount(count: int) -> str:
    size = abs(count)
    return f"{size} day{'s' if size > 1 else ''} {'after' if count > 0 else 'before'}"


def date_steps(rng: Random) -> Question:
    """Which date is 3 days after 14 March? Choices: right or wrong day, right or wrong month."""
    month, day, count = _start(rng)
    to_month, to_day = _day_after(month, day, count)
    other_day = rng.choice([d for d in range(1, 32) if 0 < abs(d - to_day) <= 4])
    other_month = (to_month + rng.choice([-1, 1])) % 12
    days, months = (to_day, other_day), (to_month, other_month)
    gold, *wrong = (f"{d} {MONTHS[m]}" for m in months for d in days)
    start = f"{day} {MONTHS[month]}"
    told = (f"{_amount(count).capitalize()} {start} comes {gold}.",)
    query = f"Which date is {_amount(count)} {start}?"
    return Question(query, gold, tuple(wrong), "date steps", told, unit=start)


def weekday(rng: Random) -> Question:
    """5 March is a Monday. Which day is 8 March?"""
    month, day, count = _start(rng)
    to_month, to_day = _day_after(month, day, count)
    place = rng.randrange(7)
    gold = DAYS[(place + count) % 7]
    start = f"{day} {MONTHS[month]}"
    query = f"{start} is a {DAYS[place]}. Which day is {to_day} {MONTHS[to_month]}?"
    return Question(query, gold, among(rng, gold, DAYS), "weekday of a date", unit=start)


def pool(rng: Random, size: int = 4_000) -> list[Question]:
    """The tables in full, and `size` draws of each family about dates."""
    runs = [q for shown in (2, 3, 4) for q in continued(rng, MONTHS, shown, "month run")]
    runs += [q for shown in (2, 3) for q in continued(rng, DAYS, shown, "day run")]
    tables = [
        *steps(rng, MONTHS, "month", 4),
        *steps(rng, DAYS, "day", 3),
        *neighbours(rng, MONTHS, "month"),
        *neighbours(rng, DAYS, "day"),
        *ordinals(rng),
        *distances(rng),
        *lengths(rng),
        *runs,
        *between(rng, MONTHS, "month"),
        *between(rng, DAYS, "day"),
        *seasons(),
    ]
    drawn = [make(rng) for make in (date_steps, weekday) for _ in range(size)]
    return unique([*tables, *drawn])


def frozen() -> list[Question]:
    """The questions of items.jsonl; steps of one or two months only."""
    rng = Random("calendar")
    asked = [q for q in pool(rng, 400) if (q.query, q.answer) not in SHOTS]
    far = {q for q in asked if q.family == "month steps" and q.query[15] in "34"}
    return [
        q
        for family, count in FROZEN.items()
        for q in draw([p for p in asked if p.family == family and p not in far], count, rng)
    ]


def write_to(folder: Path) -> None:
    """Write items.jsonl into `folder`."""
    freeze_choices(folder, frozen())


if __name__ == "__main__":
    write_to(Path(__file__).resolve().parent)
