"""Mental arithmetic as a free-form task: same five shots, other items than numeric/arithmetic.

`python tasks/numeric/arithmetic_free/build.py` writes items.jsonl.
"""

from pathlib import Path
from random import Random

from retainbench.tasks._build import Question, freeze_free
from retainbench.tasks.numeric.arithmetic.build import SHOTS as CHOICE_SHOTS
from retainbench.tasks.numeric.arithmetic.build import balanced
from retainbench.tasks.numeric.arithmetic.build import frozen as frozen_choices
from retainbench.tasks.numeric.arithmetic.build import pool as arithmetic_pool

SHOTS = CHOICE_SHOTS


def pool(rng: Random) -> list[Question]:
    """The pool of numeric/arithmetic."""
    return arithmetic_pool(rng)


def frozen() -> list[Question]:
    """The questions of items.jsonl."""
    taken = {q.query for q in frozen_choices() if q.family != "product"}
    drawn = balanced(Random("arithmetic_free"), {"sum": 160, "difference": 140, "product": 20})
    return [q for q in drawn if q.query not in taken]


def write_to(folder: Path) -> None:
    """Write items.jsonl into `folder`."""
    freeze_free(folder, frozen())


if __name__ == "__main__":
    write_to(Path(__file__).resolve().parent)
