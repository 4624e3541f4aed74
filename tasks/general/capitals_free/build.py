"""Capitals as a free-form task: the name itself must come out, not the best of four.

`python tasks/general/capitals_free/build.py` writes items.jsonl from the pool of general/capitals.
"""

from pathlib import Path
from random import Random

from retainbench.tasks._build import Question, draw, freeze_free
from retainbench.tasks.general.capitals.build import pool as capitals_pool


def pool(rng: Random) -> list[Question]:
    """Every question of general/capitals that asks for the capital."""
    return [q for q in capitals_pool(rng) if q.query.startswith("What is the capital")]


def frozen() -> list[Question]:
    """The questions of items.jsonl."""
    return draw(pool(Random("capitals_free")), 300, Random("capitals_free:draw"))


def write_to(folder: Path) -> None:
    """Write items.jsonl into `folder`."""
    freeze_free(folder, frozen())


if __name__ == "__main__":
    write_to(Path(__file__).resolve().parent)
