"""Capitals and countries as a free-form task: the name itself must come out, not the best of four.

`python tasks/general/capitals_free/build.py` writes items.jsonl from the pool of general/capitals.
"""

from dataclasses import replace
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
    """Every question of general/capitals; a country's article may be left out."""
    return [
        replace(q, aliases=(q.answer.removeprefix("The "),) if q.answer.startswith("The ") else ())
        for q in capitals_pool(rng)
    ]


def frozen() -> list[Question]:
    """The questions of items.jsonl."""
    shown = {answer for _, answer in SHOTS}
    questions = [
        q
        for q in pool(Random("capitals_free"))
        if q.answer not in shown and not any(f" {name}?" in q.query for name in shown)
    ]
    return draw(questions, 300, Random("capitals_free:draw"))


def write_to(folder: Path) -> None:
    """Write items.jsonl into `folder`."""
    freeze_free(folder, frozen())


if __name__ == "__main__":
    write_to(Path(__file__).resolve().parent)
