"""Time-series reasoning at real size: the four tasks of TimeOmni-1, arXiv:2509.24803.

`python tasks/target/ts_reasoning/build.py` writes train.jsonl, validation.jsonl and items.jsonl
(the test split). The four tasks have equally many items; half of the forecasts are of real series.
Splits share no made series; of real series the asked values of training come first in time, then
those of validation, then those of the test.
"""

from collections.abc import Callable
from pathlib import Path
from random import Random

from retainbench.tasks._build import Question, item_id, write_jsonl
from retainbench.tasks.target.ts_reasoning.questions import (
    Problem,
    causality,
    decision,
    forecast,
    real_forecasts,
    scenario,
)

PER_TASK = {"test": 60, "validation": 20, "train": 240}
TASKS: dict[str, Callable[[Random], Problem]] = {
    "scenario": scenario,
    "causality": causality,
    "forecast": forecast,
    "decision": decision,
}


def problems(task: str, split: str) -> list[Problem]:
    """The problems of one task in one split."""
    rng, count = Random(f"ts_reasoning:{task}:{split}"), PER_TASK[split]
    if task != "forecast":
        return [TASKS[task](rng) for _ in range(count)]
    real = real_forecasts(split)
    real = rng.sample(real, min(len(real), count // 2))
    return [*real, *(forecast(rng) for _ in range(count - len(real)))]


def row(task: str, problem: Problem) -> dict[str, object]:
    """An item with its worked solution."""
    identity = item_id("ts_reasoning", Question(problem.query, problem.answer, (), task))
    thought = "\n".join(problem.thought)
    solution = f"<think>{thought}</think>\n<answer>{problem.answer}</answer>"
    made: dict[str, object] = {"id": identity, "query": problem.query, "answer": problem.answer}
    made |= {"aliases": [], "cluster": problem.cluster or identity, "solution": solution}
    return made | {"task_type": task, "scale": problem.scale}


def rows(split: str) -> list[dict[str, object]]:
    """Rows of test, validation or train."""
    return [row(task, problem) for task in TASKS for problem in problems(task, split)]


def write_to(folder: Path) -> None:
    """Write the three splits into `folder`."""
    for split, name in (("train", "train"), ("validation", "validation"), ("test", "items")):
        write_jsonl(folder / f"{name}.jsonl", rows(split))


if __name__ == "__main__":
    write_to(Path(__file__).resolve().parent)
