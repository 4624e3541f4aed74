"""Cells on a Ray cluster of two nodes: a node dies in the middle and the tables are the same."""

from __future__ import annotations

import logging
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from test_run import ES, SFT, TABLES, plan_of, suite

from retainbench.harness import report as reporting
from retainbench.harness import run as runner
from retainbench.harness import run_ray
from retainbench.harness.errors import IntegrityError, UsageError

ray = pytest.importorskip("ray", reason="the `ray` extra is not installed")
# Ray's own threads and processes warn when a node is killed under them.
pytestmark = pytest.mark.filterwarnings("default")
NODE = {"num_cpus": 1, "include_dashboard": False, "object_store_memory": 2**27}


@pytest.fixture(scope="module")
def scratch() -> Iterator[Path]:
    """Where the second node keeps its temporary folders; Ray's sockets want a short path."""
    with tempfile.TemporaryDirectory(prefix="rb") as folder:
        yield Path(folder)


@pytest.fixture(scope="module")
def cluster(scratch: Path) -> Iterator[Any]:
    """Two nodes with one CPU each on this machine; this process is connected to the first."""
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        made = Cluster(initialize_head=True, head_node_args=NODE)
        patch.setenv("TMPDIR", str(scratch))
        made.add_node(**NODE)
        ray.init(made.address, log_to_driver=False, logging_level="ERROR")
        yield made
        ray.shutdown()
        made.shutdown()


def kill_while_busy(cluster: Any, scratch: Path) -> threading.Thread:
    """Kill the second node once it has logged a step of a cell; it never does after 5 minutes."""

    def wait_and_kill() -> None:
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline:
            if any(scratch.glob("retainbench-*/cells/*/steps.jsonl")):
                cluster.remove_node(next(iter(cluster.worker_nodes)), allow_graceful=False)
                return
            time.sleep(0.01)

    thread = threading.Thread(target=wait_and_kill)
    thread.start()
    return thread


def test_what_the_cluster_lacks_is_named(cluster: Any, tiny_base: Path, tmp_path: Path) -> None:
    greedy = SFT | {"resources": {"cpus": 1, "gpus": 2}}
    planned = plan_of(suite(tiny_base, recipes={"greedy": greedy}))
    with pytest.raises(UsageError, match="'greedy' asks for 1 CPUs and 2 GPUs"):
        runner.run(planned, tmp_path / "greedy", executor="ray")
    with pytest.raises(UsageError, match="--workers is for this machine"):
        runner.run(planned, tmp_path / "both", executor="ray", workers=2)
    inputs = planned.inputs.model_copy(update={"base": "0" * 64})
    with pytest.raises(IntegrityError, match="has another"):
        run_ray.check_node(planned.model_copy(update={"inputs": inputs}))


def test_a_lost_node_changes_no_table(
    cluster: Any,
    scratch: Path,
    tiny_base: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    recipes = {"sft": SFT, "es": ES, "hopeless": SFT | {"options": {"learning_rate": 1e30}}}
    planned = plan_of(suite(tiny_base, recipes=recipes))
    killer = kill_while_busy(cluster, scratch)
    with caplog.at_level(logging.WARNING, logger="retainbench"):
        cards = runner.run(planned, tmp_path / "ray", executor="ray")
    killer.join()
    assert [r for r in caplog.records if "lost with its node or worker" in r.getMessage()]
    assert [card.status for card in cards] == ["done", "done", "failed"]
    assert not (tmp_path / "ray" / run_ray.INCOMING).exists()
    runner.run(planned, tmp_path / "serial")
    for name in ("serial", "ray"):
        reporting.report(tmp_path / name, figures=False)
    for table in TABLES:
        first, second = (tmp_path / name / table for name in ("serial", "ray"))
        assert first.read_bytes() == second.read_bytes()
    assert runner.run(planned, tmp_path / "ray", executor="ray") == cards
