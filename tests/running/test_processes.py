"""A cell by two processes: the losses and the account of one; a line where a process is killed.

Losses agree to 1e-4: a batch's gradient is summed in two halves in float32 (1e-7), which Adam's
division by the root of its square makes larger wherever a gradient is close to 0.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from fixtures.runs import DYING, SFT, dying, plan_of, suite
from retainbench.harness.core.errors import UsageError
from retainbench.harness.core.paths import CellFolder
from retainbench.harness.core.records import TrainRecord
from retainbench.harness.core.stages import Stage
from retainbench.harness.models import bases
from retainbench.harness.running import run as runner
from retainbench.harness.running.training import train as training
from retainbench.harness.suites import methods
from retainbench.harness.suites.plan import Cell
from retainbench.trainers._shared import processes

COUNTED = ("forward_tokens", "backward_tokens", "samples", "steps", "flops")


def cell_of(base: Path, recipe: dict[str, Any], steps: int = 6) -> Cell:
    budget = {"unit": "steps", "amount": steps}
    [cell] = plan_of(suite(base, recipes={"cell": recipe}, budget=budget)).cells
    return cell


def trained(cell: Cell, base: Path, folder: Path, device: str = "cpu") -> TrainRecord:
    record = training.train(cell, CellFolder(folder), bases.of_folder(base), device=device)
    assert record.status == "done", record.reason
    return record


def losses(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "steps.jsonl").read_text().splitlines()]


def trains_the_same(recipe: dict[str, Any], base: Path, folder: Path, device: str = "cpu") -> None:
    """One process and two: losses, account, files and provenance."""
    records = []
    for number in (1, 2):
        cell = cell_of(base, recipe | {"processes": number})
        records.append(trained(cell, base, folder / str(number), device))
    alone, shared = (losses(folder / str(number)) for number in (1, 2))
    assert len(alone) == 6
    assert len({step["loss"] for step in alone}) == 6
    for first, second in zip(alone, shared, strict=True):
        assert second.keys() == first.keys()
        assert second["learning_rate"] == first["learning_rate"]
        for name in {"loss", "kl", "replay_nll"} & first.keys():
            assert second[name] == pytest.approx(first[name], rel=1e-4), name
    for one, two in zip(records[0].checkpoints, records[1].checkpoints, strict=True):
        assert all(getattr(one.ledger, name) == getattr(two.ledger, name) for name in COUNTED)
    names = [sorted(p.relative_to(folder / n) for p in (folder / n).rglob("*")) for n in "12"]
    assert names[0] == names[1]
    assert "processes" not in records[0].environment
    assert records[1].environment["processes"] == "2"


@pytest.mark.parametrize(
    "method", [m for m in methods.methods() if methods.splits(methods.load(m))]
)
def test_two_processes_train_as_one(tiny_base: Path, tmp_path: Path, method: str) -> None:
    trains_the_same(SFT | {"method": method}, tiny_base, tmp_path)


def test_parts_of_a_batch_and_pulls_are_shared_too(tiny_base: Path, tmp_path: Path) -> None:
    pulls = {"anchor": {"kind": "kl", "strength": 1.0}, "replay": {"source": "self", "share": 0.2}}
    options = {"learning_rate": 1e-3, "batch_size": 8, "accumulation": 2}
    trains_the_same(SFT | {"options": options} | pulls, tiny_base, tmp_path)


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")
def test_two_gpus_train_as_one(tiny_base: Path, tmp_path: Path) -> None:
    trains_the_same(SFT, tiny_base, tmp_path, "cuda")


def test_a_killed_process_ends_its_cell_with_a_line(
    tiny_base: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The same command goes on from the last state, to the bytes of a run without the kill."""
    quick = {"tasks": ["capitals"], "noise_floor": [], "divergence_prompts": 0}
    two = {"recipes": {"two": DYING | {"processes": 2}}, "trajectory": [0.25, 1.0]}
    chosen, tasks = dying(tmp_path / "died", tiny_base, **two, **quick)
    planned = plan_of(chosen, tasks)
    with caplog.at_level(logging.WARNING, logger="retainbench"):
        [lost] = runner.run(planned, tmp_path / "killed", tasks=tasks)
    assert lost.status == "failed"
    assert lost.reason
    assert lost.reason.startswith("LostProcessError: process 1 was killed by signal 9")
    [line] = [r for r in caplog.records if "process 1" in r.getMessage()]
    assert line.exc_info is None
    assert started_processes() == []
    assert list((tmp_path / "killed").glob("cells/*/state-0"))
    [again] = runner.run(planned, tmp_path / "killed", tasks=tasks)
    [whole] = runner.run(planned, tmp_path / "whole", tasks=tasks)
    assert again.status == whole.status == "done"
    assert again.provenance["processes"] == "2"
    steps = [next((tmp_path / n).glob("cells/*/steps.jsonl")) for n in ("killed", "whole")]
    assert steps[0].read_bytes() == steps[1].read_bytes()


def started_processes() -> list[psutil.Process]:
    """Processes of a cell that run; Python's own tracker of resources is none of them."""
    children = psutil.Process().children()
    return [child for child in children if "spawn_main" in " ".join(child.cmdline())]


def test_a_failure_of_the_method_is_its_reason(tiny_base: Path, tmp_path: Path) -> None:
    cell = cell_of(tiny_base, SFT | {"options": {"batch_size": 3}, "processes": 2})
    record = training.train(cell, CellFolder(tmp_path / "cell"), bases.of_folder(tiny_base))
    assert record.status == "failed"
    assert record.reason == "batch_size 3 is not a multiple of accumulation 1 x processes 2"


def test_what_cannot_be_shared_says_so() -> None:
    """A method that trains in one process, and a device."""
    with pytest.raises(UsageError, match=r"r\.processes: es trains in one process.*for dft, sft"):
        methods.check(Stage(method="es", processes=2), "r")
    with pytest.raises(UsageError, match="with `processes: 2` use --device cuda"):
        processes.run(print, 2, "cuda:1", print)  # type: ignore[arg-type]


def test_one_process_has_the_id_that_it_had(tiny_base: Path) -> None:
    cells = [cell_of(tiny_base, SFT | more) for more in ({}, {"processes": 1}, {"processes": 2})]
    assert cells[0].id == cells[1].id != cells[2].id
    assert [cell.processes for cell in cells] == ["", "", "2"]
