"""Scoring shared by workers gives the records of one process, however many there are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import retainbench
from fixtures import packs
from fixtures.threads import one_thread
from retainbench.harness.core.errors import UsageError
from retainbench.harness.models import bases
from retainbench.harness.running import shards
from retainbench.harness.scoring import evaluate
from retainbench.harness.scoring.blocks import blocks
from retainbench.harness.scoring.stored import joined
from retainbench.harness.tasks.catalogue import Catalogue

NAMES = ["capitals", "dates", "countdown"]
LIMIT = 40


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


@pytest.fixture(scope="module")
def alone(tiny_base: Path) -> list[str]:
    found = joined(evaluate.of_model(bases.of_folder(tiny_base), NAMES, LIMIT))
    return [record.model_dump_json() for record in found]


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_records_do_not_depend_on_the_number_of_workers(
    tiny_base: Path, alone: list[str], workers: int
) -> None:
    base = bases.of_folder(tiny_base)
    found = joined(shards.of_model(base, NAMES, LIMIT, workers=workers))
    assert [record.model_dump_json() for record in found] == alone


def test_a_long_task_is_shared_too(tiny_base: Path, tmp_path: Path) -> None:
    """1100 items are three blocks; a worker may answer the last one first."""
    packs.make_pack(tmp_path / "packs", "sums", packs.choice_rows(1100))
    tasks, base = Catalogue.of([tmp_path / "packs"]), bases.of_folder(tiny_base)
    [info] = tasks.find(["sums"])
    assert [block.number for block in blocks(info, None)] == [0, 1, 2]
    assert [block.number for block in blocks(info, 500)] == [0]
    whole = joined(evaluate.of_model(base, ["sums"], tasks=tasks))
    shared = joined(shards.of_model(base, ["sums"], workers=2, tasks=tasks))
    assert shared == whole
    assert len(whole) == 1100


def test_a_table_is_the_same_with_workers(tiny_base: Path) -> None:
    tables = [retainbench.evaluate(tiny_base, "dates", limit=20, workers=n) for n in (1, 2)]
    assert tables[0].equals(tables[1])
    with pytest.raises(UsageError, match="workers need a model that is named"):
        retainbench.evaluate((None, None), "dates", workers=2)  # type: ignore[arg-type]
