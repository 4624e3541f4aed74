"""Causality discovery: which of two series leads the other, and by how many steps, if any.

`python tasks/target/ts_causality/build.py` writes the splits. A follower repeats its leader one or
two steps later plus a constant; in the last case both are independent.
"""

from pathlib import Path
from random import Random

from retainbench.tasks._build import Question
from retainbench.tasks._splits import freeze_splits

LENGTH = 8
LAGS = (1, 2)
ANSWERS = ("A by 1", "A by 2", "B by 1", "B by 2", "neither")


def walk(rng: Random) -> list[int]:
    """LENGTH + 2 independent readings in 1..6; no two neighbours equal, so that a lag shows."""
    values = [rng.randint(1, 6)]
    while len(values) < LENGTH + max(LAGS):
        value = rng.randint(1, 6)
        if value != values[-1]:
            values.append(value)
    return values


def follows(leader: list[int], follower: list[int], lag: int) -> bool:
    """Whether the follower is the leader `lag` steps later plus a constant."""
    return len({b - a for a, b in zip(leader[:-lag], follower[lag:], strict=True)}) == 1


def problem(rng: Random) -> tuple[Question, dict[str, object]]:
    """Two series and the answer: the leader with its lag, or neither."""
    first, offset, answer = walk(rng), rng.randint(0, 3), rng.choice(ANSWERS)
    lag = int(answer[-1]) if answer != "neither" else 1
    start = max(LAGS) - lag
    leader = first[max(LAGS) :]
    follower = [value + offset for value in first[start : start + LENGTH]]
    if answer == "neither":
        follower = [value + offset for value in walk(rng)[:LENGTH]]
        pairs = ((leader, follower), (follower, leader))
        if any(follows(*pair, n) for n in LAGS for pair in pairs):
            return problem(rng)
    a, b = (follower, leader) if answer.startswith("B") else (leader, follower)
    texts = [", ".join(str(value) for value in values) for values in (a, b)]
    query = f"Series A is {texts[0]}. Series B is {texts[1]}. Which one leads, and by how many"
    query += " steps: A by 1, A by 2, B by 1, B by 2 or neither?"
    return Question(query, answer, (), answer), {}


def write_to(folder: Path) -> None:
    """Write the three splits into `folder`."""
    freeze_splits(folder, problem)


if __name__ == "__main__":
    write_to(Path(__file__).resolve().parent)
