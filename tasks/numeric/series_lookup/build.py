"""Reading values off a series: by place, the largest, the smallest. Free form.

`python tasks/numeric/series_lookup/build.py` writes items.jsonl.
"""

from pathlib import Path
from random import Random

from retainbench.tasks._build import Question, draw, freeze_free, unique
from retainbench.tasks.temporal.calendar.build import ORDINALS


def question(rng: Random) -> Question:
    """One series of four to six different values and one question about it."""
    values = rng.sample(range(10, 100), rng.randint(4, 6))
    shown = ", ".join(str(value) for value in values)
    kind = rng.choice(("place", "place", "last", "largest", "smallest"))
    if kind == "place":
        place = rng.randrange(len(values) - 1)
        query, gold = f"What is the {ORDINALS[place]} value in {shown}?", values[place]
    else:
        query = f"What is the {kind} value in {shown}?"
        gold = {"last": values[-1], "largest": max(values), "smallest": min(values)}[kind]
    return Question(query, str(gold), (), kind)


def pool(rng: Random, size: int = 12_000) -> list[Question]:
    """`size` draws, repeats removed."""
    return unique(question(rng) for _ in range(size))


def frozen() -> list[Question]:
    """The questions of items.jsonl."""
    return draw(pool(Random("series_lookup"), 2_000), 300, Random("series_lookup:draw"))


def write_to(folder: Path) -> None:
    """Write items.jsonl into `folder`."""
    freeze_free(folder, frozen())


if __name__ == "__main__":
    write_to(Path(__file__).resolve().parent)
