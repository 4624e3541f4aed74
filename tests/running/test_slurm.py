"""Cells as jobs of submitit give the tables of this process; a lost job is a failed cell."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from fixtures.runs import plan_of, suite
from retainbench.harness.core.errors import UsageError
from retainbench.harness.models import bases
from retainbench.harness.running import pool, reference, run
from retainbench.harness.running.clusters import slurm
from retainbench.harness.running.context import Context
from retainbench.harness.suites.plan import Plan

pytest.importorskip("submitit", reason="the `slurm` extra is not installed")
# submitit leaves the pipes of its processes to the garbage collector.
pytestmark = pytest.mark.filterwarnings("default::ResourceWarning")


def context(plan: Plan, root: Path) -> Context:
    run.open_folder(plan, root)
    return Context(plan, root, bases.resolve(plan.suite.base))


def test_jobs_give_the_scorecards_of_this_process(tiny_base: Path, tmp_path: Path) -> None:
    plan = plan_of(suite(tiny_base, trajectory=[1.0], divergence_prompts=0, noise_floor=[]))
    here, there = context(plan, tmp_path / "here"), context(plan, tmp_path / "there")
    reference.prepare(here)
    ours = {cell.id: card for cell, card in pool.serial(here, None)}
    theirs = {cell.id: card for cell, card in slurm.cells(there, "local")}
    assert ours.keys() == theirs.keys()
    for cell, card in ours.items():
        assert theirs[cell].points[-1].tasks == card.points[-1].tasks
        assert theirs[cell].points[-1].weights_digest == card.points[-1].weights_digest
    again = list(slurm.cells(there, "local"))
    assert {cell.id: card for cell, card in again} == theirs


def test_without_slurm_it_is_one_line_and_nothing_is_written(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    plan = plan_of(suite(tiny_base))
    with pytest.raises(UsageError, match="there is no sbatch here"):
        run.run(plan, tmp_path / "run", executor="slurm")
    assert not (tmp_path / "run").exists()


def test_a_base_that_cannot_be_scored_is_one_line(tiny_base: Path, tmp_path: Path) -> None:
    plan = plan_of(suite(tiny_base, divergence_prompts=0, noise_floor=[]))
    broken = context(plan, tmp_path / "run")
    gone = replace(broken, base=broken.base._replace(folder=tmp_path / "gone"))
    with pytest.raises(UsageError, match="the job that scores the base failed"):
        list(slurm.cells(gone, "local"))
