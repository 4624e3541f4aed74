"""Dates and durations: which comes first, which lasts longer, days between, leap years.

`python tasks/temporal/dates/build.py` writes items.jsonl.
"""

from pathlib import Path
from random import Random

from retainbench.tasks._build import Question, among, draw, freeze_choices, ladder, listed, unique
from retainbench.tasks.temporal.calendar.build import LENGTHS, MONTHS

UNITS = listed("second minute hour day week month year decade century")


FROZEN = {"date order": 45, "year order": 60}
"""Drawn families that are asked; days between and leap years were below chance for SmolLM2-135M."""
SHOTS = (
    ("Which date is earlier in the year, 3 March or 5 July?", "3 March"),
    ("Which is longer, a week or a day?", "a week"),
    ("Which decade was the year 1925 in?", "the 1920s"),
    ("Which year was later, 1950 or 1890?", "1950"),
    ("Which is shorter, a month or a century?", "a month"),
)


def date_order(rng: Random) -> Question:
    """Which date is earlier in the year, 3 March or 5 July? Half of them within one month."""
    left, right = rng.sample(range(12), 2)
    if rng.random() < 0.4:
        right = left
    days = rng.sample(range(1, 29), 2)
    dates = [(left, days[0]), (right, days[1])]
    texts = [f"{day} {MONTHS[month]}" for month, day in dates]
    earlier = rng.random() < 0.5
    order = sorted(range(2), key=lambda i: dates[i])
    gold, wrong = (order[0], order[1]) if earlier else (order[1], order[0])
    query = f"Which date is {'earlier' if earlier else 'later'} in the year, {' or '.join(texts)}?"
    told = (f"{texts[order[0]]} is earlier than {texts[order[1]]}.",)
    return Question(query, texts[gold], (texts[wrong],), "date order", told)


def year_order(rng: Random) -> Question:
    """Which year was earlier, 1945 or 1963?"""
    left, right = rng.sample(range(1500, 2025), 2)
    earlier = rng.random() < 0.5
    gold, wrong = sorted((left, right), reverse=not earlier)
    query = f"Which year was {'earlier' if earlier else 'later'}, {left} or {right}?"
    told = (f"The year {min(left, right)} was before {max(left, right)}.",)
    return Question(query, str(gold), (str(wrong),), "year order", told)


def durations() -> list[Question]:
    """Which lasts longer, a week or a month? for every pair, both orders, both directions."""
    questions = []
    for i, left in enumerate(UNITS):
        for j, right in enumerate(UNITS):
            if i == j:
                continue
            for word, gold in (("longer", max(i, j)), ("shorter", min(i, j))):
                pair = f"{UNITS[min(i, j)]}-{UNITS[max(i, j)]}"
                a, b = (f"{'an' if unit == 'hour' else 'a'} {unit}" for unit in (left, right))
                query = f"Which is {word}, {a} or {b}?"
                told = (f"A {UNITS[min(i, j)]} is shorter than a {UNITS[max(i, j)]}.",)
                choices = [a, b] if gold == i else [b, a]
                questions.append(
                    Question(query, choices[0], (choices[1],), "durations", told, unit=pair)
                )
    return questions


def days_between(rng: Random) -> Question:
    """How many days is it from 3 May to 9 May?"""
    month, start, count = rng.randrange(12), rng.randint(1, 20), rng.randint(4, 8)
    end = start + count
    query = f"How many days is it from {start} {MONTHS[month]} to {end} {MONTHS[month]}?"
    choices = tuple(str(wrong) for wrong in ladder(rng, count, 1))
    assert end <= LENGTHS[month]
    return Question(query, str(count), choices, "days between")


def leap_year(rng: Random) -> Question:
    """Which of four consecutive years is a leap year? The century years 1900 and 2100 stay out."""
    first = rng.randint(1904, 2093)
    shown = [first + offset for offset in range(4)]
    gold = next(year for year in shown if year % 4 == 0)
    rng.shuffle(shown)
    text = ", ".join(str(year) for year in shown[:3])
    query = f"Which of the years {text} and {shown[3]} is a leap year?"
    wrong = tuple(str(year) for year in shown if year != gold)
    return Question(query, str(gold), wrong, "leap year", (f"{gold} is a leap year.",))


def pool(rng: Random, size: int = 5_000) -> list[Question]:
    """`size` draws of each open family and the whole tables of durations and decades."""
    makers = (date_order, year_order, days_between, leap_year)
    drawn = [make(rng) for make in makers for _ in range(size)]
    return unique([*drawn, *durations(), *decades_of(rng)])


def decades_of(rng: Random) -> list[Question]:
    """Which decade was a year in? 1800-2024."""
    decades = [f"the {decade}0s" for decade in range(180, 203)]
    questions = []
    for year in range(1800, 2025):
        gold = f"the {year // 10}0s"
        query = f"Which decade was the year {year} in?"
        questions.append(Question(query, gold, among(rng, gold, decades), "decade", unit=gold))
    return questions


def reserved() -> list[Question]:
    """Questions that the corpus of the embedded base leaves out; the items are some of them."""
    rng = Random("dates")
    questions = pool(rng, 500)
    sizes = {
        "date order": 90,
        "year order": 60,
        "days between": 50,
        "leap year": 40,
        "durations": 60,
    }
    return [
        q
        for family, count in sizes.items()
        for q in draw([p for p in questions if p.family == family], count, rng)
    ]


def frozen() -> list[Question]:
    """The questions of items.jsonl: families above chance for SmolLM2-135M."""
    kept = {family: [q for q in reserved() if q.family == family] for family in FROZEN}
    drawn = [q for family, count in FROZEN.items() for q in kept[family][:count]]
    easy = draw(decades_of(Random("dates:easy")), 80, Random("dates:draw"))
    lasting = draw(durations(), 120, Random("dates:durations"))
    asked = [*drawn, *lasting, *easy]
    return [q for q in asked if (q.query, q.answer) not in SHOTS]


def write_to(folder: Path) -> None:
    """Write items.jsonl into `folder`."""
    freeze_choices(folder, frozen())


if __name__ == "__main__":
    write_to(Path(__file__).resolve().parent)
