"""Counting: how often a word occurs in a short list. Free form.

`python tasks/numeric/counting/build.py` writes items.jsonl.
"""

from pathlib import Path
from random import Random

from retainbench.tasks._build import Question, draw, freeze_free, listed, unique

WORDS = listed("cat dog bird fish horse sheep")


def question(rng: Random) -> Question:
    """A list of five to eight words out of three, one of which is counted (1..4 times)."""
    kinds = rng.sample(WORDS, 3)
    count = rng.randint(1, 4)
    others = [rng.choice(kinds[1:]) for _ in range(rng.randint(5, 8) - count)]
    listed = [kinds[0]] * count + others
    rng.shuffle(listed)
    query = f"How many times does {kinds[0]} occur in: {' '.join(listed)}?"
    return Question(query, str(count), (), f"{count} times")


def pool(rng: Random, size: int = 12_000) -> list[Question]:
    """`size` draws, repeats removed."""
    return unique(question(rng) for _ in range(size))


def frozen() -> list[Question]:
    """The questions of items.jsonl."""
    return draw(pool(Random("counting"), 2_000), 300, Random("counting:draw"))


def write_to(folder: Path) -> None:
    """Write items.jsonl into `folder`."""
    freeze_free(folder, frozen())


if __name__ == "__main__":
    write_to(Path(__file__).resolve().parent)
