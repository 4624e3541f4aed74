"""Damaged results of the three harnesses: a refusal that names the file, never another exception.

Candidates of a regression and a guesser on both sides must not become PASS by any damage. Each form
is damaged a few times here; `campaign` takes any number.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from fixtures.adoption import (
    DATE,
    inspect_log,
    lighteval,
    lm_eval_row,
    lm_eval_run,
)
from fixtures.mutations import mutations
from fixtures.waiting import at_most
from retainbench.harness.core.errors import IntegrityError, UsageError
from retainbench.harness.gate.command import Sources, command

ITEMS = 60
MOST_SECONDS = 10.0
Tree = dict[str, Any]


def lm_eval_tree(right: list[bool]) -> Tree:
    """Results and rows of one task with three options."""
    counts = {"tiny": {"original": len(right), "effective": len(right)}}
    rows = [lm_eval_row(number, right=ok) for number, ok in enumerate(right)]
    return {"results": {"n-samples": counts}, "rows": rows}


def whole_lm_eval(folder: Path, right: list[bool]) -> Tree:
    """What the fixture writes, as one tree."""
    tree = lm_eval_tree(right)
    lm_eval_run(folder, tree["rows"], **tree["results"])
    results = json.loads((folder / f"results_{DATE}.json").read_text())
    return {"results": results, "rows": tree["rows"]}


def whole_inspect(folder: Path, right: list[bool]) -> Tree:
    folder.mkdir(parents=True)
    return inspect_log("tiny", ["C" if ok else "I" for ok in right])


def write_inspect(folder: Path, tree: Any) -> None:
    folder.mkdir(parents=True)
    (folder / "log.json").write_text(json.dumps(tree))


def whole_lighteval(folder: Path, right: list[bool]) -> Tree:
    lighteval(folder, right)
    (results,) = (folder / "results").rglob("*.json")
    files = sorted((folder / "details").rglob("*.parquet"))
    rows = {file.name: parquet.read_table(file).to_pylist() for file in files}
    return {"results": json.loads(results.read_text()), "rows": rows}


def write_lighteval(folder: Path, tree: Tree) -> None:
    details = folder / "details" / "org" / "model" / DATE
    details.mkdir(parents=True)
    results = folder / "results" / "org" / "model" / f"results_{DATE}.json"
    results.parent.mkdir(parents=True)
    results.write_text(json.dumps(tree["results"]))
    for name, rows in tree["rows"].items():
        if name != Path(name).name:  # a damaged name must not leave the folder here
            raise ValueError(name)
        parquet.write_table(pa.Table.from_pylist(rows), details / name)


def write_rows_and_results(folder: Path, tree: Tree) -> None:
    folder.mkdir(parents=True)
    (folder / f"results_{DATE}.json").write_text(json.dumps(tree["results"]))
    rows = tree["rows"] if isinstance(tree["rows"], list) else [tree["rows"]]
    lines = "".join(f"{json.dumps(row)}\n" for row in rows)
    (folder / f"samples_tiny_{DATE}.jsonl").write_text(lines)


FORMS: dict[str, tuple[Callable[..., Tree], Callable[..., None]]] = {
    "lm-eval": (whole_lm_eval, write_rows_and_results),
    "Inspect": (whole_inspect, write_inspect),
    "lighteval": (whole_lighteval, write_lighteval),
}


def damaged(form: str, tree: Tree, number: int, seed: int, folder: Path) -> Iterator[Path]:
    """Folders of damaged results; damage that the form cannot hold at all is left out."""
    write = FORMS[form][1]
    made = 0
    for index, copy in enumerate(mutations(tree, 20 * number, seed=seed)):
        target = folder / str(index)
        try:
            write(target, copy)
        except (
            *(pa.ArrowException, ValueError, TypeError, KeyError),
            *(AttributeError, OSError, OverflowError),
        ):
            continue
        yield target
        made += 1
        if made == number:
            return


def campaign(form: str, number: int, seed: int, folder: Path) -> Counter[str]:
    """Gate `number` damaged results; the counts of how it ended.

    Raises:
        AssertionError: a PASS, or longer than `MOST_SECONDS`. Any other exception is a fault.
    """
    whole, write = FORMS[form]
    policy = folder / "policy.yaml"
    policy.write_text("margin: 0.2\nminimum_items: 20\n")
    base, lost = [True] * ITEMS, [number % 2 == 0 for number in range(ITEMS)]
    guessed = [number % 3 == 0 for number in range(ITEMS)]
    write(folder / "base", whole(folder / "whole_base", base))
    ended: Counter[str] = Counter()
    trees = {
        "regression": whole(folder / "whole_lost", lost),
        "guesser": whole(folder / "whole_guesser", guessed),
    }
    if form == "lighteval":  # generated answers that are right by a third are not guesses
        trees["guesser"]["rows"] = dict(list(trees["guesser"]["rows"].items())[1:])
    for name, tree in trees.items():
        for candidate in damaged(form, tree, number // 2, seed, folder / name):
            before = candidate if name == "guesser" else folder / "base"
            with at_most(MOST_SECONDS):
                try:
                    sources = Sources(base_results=before, candidate_results=candidate)
                    verdict = command(sources, policy=policy).results[0].verdict
                    assert verdict != "PASS", (form, name, candidate)
                    ended[verdict] += 1
                except (IntegrityError, UsageError) as error:
                    ended[type(error).__name__] += 1
    return ended


@pytest.mark.parametrize("form", FORMS)
def test_damage_is_refused_or_judged(form: str, tmp_path: Path) -> None:
    ended = campaign(form, 60, 7, tmp_path)
    assert ended["IntegrityError"] > 10
    assert ended["REGRESSION"] > 0
