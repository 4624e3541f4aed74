"""Causality discovery: which of two series leads the other by one step, if any.

`python tasks/target/ts_causality/build.py` writes the splits. A follower repeats its leader one
step later plus a constant; in the third case both are independent.
"""

from pathlib import Path
from random import Random

from retainbench.tasks._build import Question
from retainbench.tasks._splits import freeze_splits

LENGTH = 7


def walk(rng: Random) -> list[int]:
    """Independent readings in 1..6; no two neighbours equal, so that a lag shows."""
    values = [rng.randint(1, 6)]
    while len(values) < LENGTH + 1:
        value = rng.randint(1, 6)
        if value != values[-1]:
            values.append(value)
    return values


def follows(leader: list[int], follower: list[int]) -> bool:
    """Whether the follower is the leader one step later plus a constant."""
    return len({b - a for a, b in zip(leader[:-1], follower[1:], strict=True)}) == 1


def problem(rng: Random) -> tuple[Question, dict[str, object]]:
    """Two series and the name of the leader, or neither."""
    answer = rng.choice(("A", "B", "neither"))
    first, offset = walk(rng), rng.randint(0, 3)
    leader, follower = first[1:], [value + offset for value in first[:-1]]
    if answer == "neither":
        follower = [value + offset for value in walk(rng)[:-1]]
        if follows(leader, follower) or follows(follower, leader):
            return problem(rng)
    a, b = (follower, leader) if answer == "B" else (leader, follower)
    texts = [", ".join(str(value) for value in values) for values in (a, b)]
    query = f"Series A is {texts[0]}. Series B is {texts[1]}. Which one leads, A, B or neither?"
    return Question(query, answer, (), answer), {}


def write_to(folder: Path) -> None:
    """Write the three splits into `folder`."""
    freeze_splits(folder, problem)


if __name__ == "__main__":
    write_to(Path(__file__).resolve().parent)
