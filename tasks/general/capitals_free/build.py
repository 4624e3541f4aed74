"""Capitals as a free-form task: the name itself must come out, not the best of four.

`python tasks/general/capitals_free/build.py` writes items.jsonl from the pool of general/capitals.
"""

from pathlib import Path
from random import Random

from retainbench.tasks._build import Question, draw, freeze_free
from retainbench.tasks.general.capitals.build import pool as capitals_pool

SHOTS = (
    ("What is the capital of France?", "Paris"),
    ("What is the capital of Japan?", "Tokyo"),
    ("What is the capital of Egypt?", "Cairo"),
    ("What is the capital of Canada?", "Ottawa"),
    ("What is the capital of Peru?", "Lima"),
)
"""Without examples SmolLM2-135M ends its answer before it begins."""


def pool(rng: Random) -> list[Question]:
    """Every question of general/capitals that asks for the capital."""
    return [q for q in capitals_pool(rng) if q.query.startswith("What is the capital")]


def frozen() -> list[Question]:
    """The questions of items.jsonl."""
    questions = [q for q in pool(Random("capitals_free")) if (q.query, q.answer) not in SHOTS]
    return draw(questions, 300, Random("capitals_free:draw"))


def write_to(folder: Path) -> None:
    """Write items.jsonl into `folder`."""
    freeze_free(folder, frozen())


if __name__ == "__main__":
    write_to(Path(__file__).resolve().parent)
