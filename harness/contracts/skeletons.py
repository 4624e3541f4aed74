"""`retainbench new`: files that run at once and say in comments what to change.

Writes NAME.py (method), NAME.yaml (suite), NAME/ (target), or NAME.jsonl and NAME/ (task).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

from retainbench.harness.contracts import new_target, rows
from retainbench.harness.contracts.new_target import TargetSpec
from retainbench.harness.core import names, paths
from retainbench.harness.core.errors import UsageError
from retainbench.harness.core.files import locks
from retainbench.harness.core.files.storage import write_text
from retainbench.harness.suites import methods
from retainbench.harness.tasks import catalogue, freeze

SAMPLES = 240
FRUIT = ("apples", "pears", "plums", "figs", "limes", "nuts")


def method(name: str, out: Path) -> Path:
    """OUT/NAME.py.

    Raises:
        UsageError: the name is taken.
    """
    if not name.isidentifier():
        raise UsageError(f"'{name}' cannot name a method: use letters, digits and _")
    if name in methods.installed():
        raise UsageError(f"{name} is a method already. Choose another name")
    return _written(out / f"{name}.py", _template("method", name))


def suite(
    name: str, out: Path, targets: Sequence[str], tasks: Sequence[str], own: Sequence[str]
) -> Path:
    """OUT/NAME.yaml with the given targets, tasks and methods, names or paths from the YAML."""
    try:
        names.checked(name)
    except ValueError as error:
        raise UsageError(str(error)) from error
    recipes = [f"  {Path(each).stem}: {{method: {each}}}" for each in own]
    filled = {
        "TARGETS": ", ".join(targets or ["countdown"]),
        "TASKS": ", ".join(tasks or ["capitals", "arithmetic", "calendar"]),
        "RECIPES\n": "".join(f"{line}\n" for line in recipes),
    }
    text = _template("suite", name)
    for mark, value in filled.items():
        text = text.replace(mark, value)
    return _written(out / f"{name}.yaml", text)


def target(name: str, out: Path) -> catalogue.TaskInfo:
    """OUT/NAME/: made-up rows and a reward.py of its own.

    Raises:
        UsageError: it exists.
    """
    _require_free(out / name)
    with TemporaryDirectory() as scratch:
        reward = Path(scratch) / "reward.py"
        reward.write_text(_template("reward", name), encoding="utf-8")
        wish = TargetSpec(
            name,
            str(reward),
            licence="made-up sample rows",
            provenance={"source": "jsonl", "name": "sample rows"},
        )
        return new_target.write(wish, rows.split(list(_sums())), out)


def _sums() -> Iterator[rows.Row]:
    dice = Random("sums")
    pairs = dice.sample([(a, b) for a in range(10, 100) for b in range(10, 100)], SAMPLES)
    for number, (a, b) in enumerate(pairs):
        row = {"id": f"sum-{number}", "query": f"{a} and {b} make?", "answer": str(a + b)}
        yield rows.completed(row)


def task(name: str, out: Path, axis: str) -> catalogue.TaskInfo:
    """OUT/NAME.jsonl with made-up rows, and OUT/NAME/, the task that they are frozen to.

    Raises:
        UsageError: one of them exists.
    """
    freeze.check_name(name)
    _require_free(out / name)
    lines = "".join(json.dumps(row) + "\n" for row in _questions())
    with locks.growing(out, create=True):
        file = _written(out / f"{name}.jsonl", lines)
        return freeze.write(freeze.from_jsonl(file, name, axis, licence="made-up sample rows"), out)


def _questions() -> Iterator[rows.Row]:
    """Which fruit there is most of: the right choice at every place equally often."""
    dice = Random("fruit")
    for number in range(SAMPLES):
        kinds = dice.sample(FRUIT, 4)
        counts = dict(zip(kinds, dice.sample(range(2, 20), 4), strict=True))
        listed = ", ".join(f"{count} {kind}" for kind, count in counts.items())
        most = max(counts, key=lambda kind: counts[kind])
        others = dice.sample([kind for kind in kinds if kind != most], 3)
        gold = number % 4
        yield {
            "id": f"most-{number}",
            "query": f"There are {listed}. Of which are there most?",
            "choices": [*others[:gold], most, *others[gold:]],
            "gold": gold,
        }


def _template(kind: str, name: str) -> str:
    text = (paths.TEMPLATES / f"new_{kind}.txt").read_text(encoding="utf-8")
    return text.replace("NAME", name)


def _require_free(folder: Path) -> None:
    if folder.exists():
        raise UsageError(f"{folder} exists already: choose another name")


def _written(path: Path, text: str) -> Path:
    """Write a file that is not there; one with the same text was left by a killed command."""
    if path.exists() and not (path.is_file() and path.read_bytes() == text.encode()):
        raise UsageError(f"{path} exists already: choose another name")
    write_text(path, text)
    return path
