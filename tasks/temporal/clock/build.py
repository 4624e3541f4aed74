"""Clock times: hours later and earlier, spoken and written times, the 24-hour clock.

`python tasks/temporal/clock/build.py` writes items.jsonl. Whole hours and quarters are closed
tables; minutes later and earlier are drawn.
"""

from pathlib import Path
from random import Random

from retainbench.tasks._build import Question, among, continued, cycle, draw, freeze_choices, unique
from retainbench.tasks.numeric.quantities.build import words

HOURS = [f"{hour} o'clock" for hour in range(1, 13)]
AMOUNTS = [f"{count} hour{'s' if count > 1 else ''}" for count in range(1, 12)]


FROZEN = {
    "shift": 50,
    "spoken": 44,
    "24 hours": 30,
    "hour run": 22,
    "quarter run": 44,
    "minute shift": 110,
}
"""Families that are asked, and how many at most; spans were below chance for SmolLM2-135M."""
SHOTS = (
    ("It is 4 o'clock. What time is it 2 hours later?", "6 o'clock"),
    ("How is the time half past nine written in digits?", "9:30"),
    ("What is 8 pm on a 24-hour clock?", "20:00"),
    ("What comes next: 3:15, 3:30, 3:45?", "4:00"),
    ("It is 2:10. What time is it 15 minutes later?", "2:25"),
)


def shifts(rng: Random) -> list[Question]:
    """It is 3 o'clock. What time is it 2 hours later?"""
    questions = []
    for place, start in enumerate(HOURS):
        for count in range(1, 7):
            for sign, relation in ((1, "later"), (-1, "earlier")):
                gold = HOURS[(place + sign * count) % 12]
                query = f"It is {start}. What time is it {AMOUNTS[count - 1]} {relation}?"
                told = (f"{AMOUNTS[count - 1].capitalize()} {relation} than {start} is {gold}.",)
                questions.append(
                    Question(query, gold, among(rng, gold, HOURS), "shift", told, unit=start)
                )
    return questions


def spans(rng: Random) -> list[Question]:
    """How long is it from 3 o'clock to 7 o'clock?"""
    questions = []
    for place, start in enumerate(HOURS):
        for count in range(1, 12):
            end, gold = HOURS[(place + count) % 12], AMOUNTS[count - 1]
            query = f"How long is it from {start} to the next {end}?"
            told = (f"From {start} to the next {end} it is {gold}.",)
            questions.append(
                Question(query, gold, among(rng, gold, AMOUNTS), "span", told, unit=start)
            )
    return questions


def spoken(rng: Random) -> list[Question]:
    """How is half past three written in digits?"""
    parts = (("half past", 30), ("quarter past", 15), ("ten past", 10), ("quarter to", 45))
    wrong = cycle([f"{hour}:{minute}" for hour in range(1, 13) for _, minute in parts], rng)
    questions = []
    for hour in range(1, 13):
        for phrase, minute in parts:
            shown = hour - 1 or 12 if minute == 45 else hour
            gold = f"{shown}:{minute}"
            query = f"How is the time {phrase} {words(hour)} written in digits?"
            told = (f"{phrase.capitalize()} {words(hour)} is written {gold}.",)
            questions.append(Question(query, gold, wrong[gold], "spoken", told, unit=words(hour)))
    return questions


def day_clock(rng: Random) -> list[Question]:
    """What is 3 pm on a 24-hour clock? and back, noon and midnight left out."""
    pairs = [(f"{hour} am", f"{hour:02d}:00") for hour in range(1, 12)]
    pairs += [(f"{hour} pm", f"{hour + 12}:00") for hour in range(1, 12)]
    wrong_short = cycle([pair[0] for pair in pairs], rng)
    wrong_full = cycle([pair[1] for pair in pairs], rng)
    questions = []
    for half, whole in pairs:
        told = (f"{half} is {whole} on a 24-hour clock.",)
        forward = f"What is {half} on a 24-hour clock?"
        back = f"What is {whole} on a 12-hour clock?"
        questions.append(Question(forward, whole, wrong_full[whole], "24 hours", told, unit=half))
        questions.append(Question(back, half, wrong_short[half], "24 hours", told, unit=half))
    return questions


def minute_shift(rng: Random) -> Question:
    """It is 3:45. What time is it 20 minutes later? Choices: right or wrong hour and minute."""
    start, count = rng.randrange(144) * 5, rng.randint(1, 11) * 5
    sign, relation = rng.choice(((1, "later"), (-1, "earlier")))
    end = (start + sign * count) % 720
    other_hour = 60 * rng.randint(3, 9)
    other_minute = 5 * rng.choice([m for m in range(12) if m != end % 60 // 5])
    wrong_minute = end - end % 60 + other_minute
    moved = [end, end + other_hour, wrong_minute, wrong_minute + other_hour]
    gold, *wrong = map(_digits, moved)
    query = f"It is {_digits(start)}. What time is it {count} minutes {relation}?"
    told = (f"{count} minutes {relation} than {_digits(start)} is {gold}.",)
    return Question(query, gold, tuple(wrong), "minute shift", told, unit=_digits(start))


def _digits(minutes: int) -> str:
    """Minutes since twelve as 3:05."""
    hour, minute = divmod(minutes % 720, 60)
    return f"{hour or 12}:{minute:02d}"


def pool(rng: Random, size: int = 2_500) -> list[Question]:
    """The tables in full, and `size` draws of minutes later and earlier."""
    quarters = [_digits(minutes) for minutes in range(60, 780, 15)]
    tables = [
        *shifts(rng),
        *spans(rng),
        *spoken(rng),
        *day_clock(rng),
        *continued(rng, HOURS, 2, "hour run"),
        *continued(rng, HOURS, 3, "hour run"),
        *continued(rng, quarters, 3, "quarter run"),
    ]
    return unique([*tables, *(minute_shift(rng) for _ in range(size))])


def frozen() -> list[Question]:
    """The questions of items.jsonl."""
    rng = Random("clock")
    asked = [q for q in pool(rng, 400) if (q.query, q.answer) not in SHOTS]
    return [
        q
        for family, count in FROZEN.items()
        for q in draw([p for p in asked if p.family == family], count, rng)
    ]


def write_to(folder: Path) -> None:
    """Write items.jsonl into `folder`."""
    freeze_choices(folder, frozen())


if __name__ == "__main__":
    write_to(Path(__file__).resolve().parent)
