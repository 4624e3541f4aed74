"""A Ray cluster of two nodes: it shares the items of a model; a node dies amid cells, tables stay.

RETAINBENCH_RAY_SUITE=quick runs a packaged suite in this way too, once on the cluster and once in
this process: about as long as two runs of it with one thread.
"""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from fixtures.runs import ES, SFT, TABLES, plan_of, suite
from fixtures.threads import one_thread
from fixtures.waiting import until
from retainbench.harness.core.errors import IntegrityError, UsageError
from retainbench.harness.core.files import atomic
from retainbench.harness.core.scorecards import Scorecard
from retainbench.harness.models import bases
from retainbench.harness.report import report as reporting
from retainbench.harness.running import run as runner
from retainbench.harness.running import shards
from retainbench.harness.running.clusters import ray as run_ray
from retainbench.harness.running.clusters import ray_node
from retainbench.harness.scoring import evaluate
from retainbench.harness.scoring.stored import joined
from retainbench.harness.suites import loading
from retainbench.harness.suites.plan import Plan

ray = pytest.importorskip("ray", reason="the `ray` extra is not installed")
# Ray's own threads and processes warn when a node is killed under them.
pytestmark = pytest.mark.filterwarnings("default")
NODE = {"num_cpus": 1, "include_dashboard": False, "object_store_memory": 2**27}
PACKAGED = os.environ.get("RETAINBENCH_RAY_SUITE")


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the nodes keep their temporary folders."""
    return tmp_path_factory.mktemp("scratch")


@pytest.fixture(scope="module")
def cluster(scratch: Path) -> Iterator[Any]:
    """Two nodes with one CPU each on this machine; this process is connected to the first.

    Afterwards no process of theirs is left, and no file outside pytest's own folder.
    """
    from ray.cluster_utils import Cluster

    before = psutil.Process().children(recursive=True)
    # Of Ray's own files: a socket's path has room for 107 bytes, which pytest's folders fill.
    session = tempfile.mkdtemp(prefix="rb-")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_worker_niceness", "0")  # else a busy machine hardly lets them run
        patch.setenv("RAY_TMPDIR", session)
        patch.setenv("TMPDIR", str(scratch))
        (Path(session) / "ray").mkdir()  # the cluster notes its address there before it is made
        made = Cluster()
        try:
            made.add_node(**NODE)
            add_node(made)
            ray.init(made.address, log_to_driver=False, logging_level="ERROR")
            yield made
        finally:
            started = set(psutil.Process().children(recursive=True)) - set(before)
            ray.shutdown()
            made.shutdown()
            shutil.rmtree(session)
    assert started
    until(lambda: not any(atomic.alive(process.pid) for process in started))


def add_node(cluster: Any) -> None:
    """Waits as long as it takes; Ray's own waiting gives up after 30 s."""
    cluster.add_node(wait=False, **NODE)
    wanted = 1 + len(cluster.worker_nodes)
    while len(alive(cluster)) < wanted:
        time.sleep(0.1)


def alive(cluster: Any) -> list[str]:
    """Ids of the nodes."""
    return [node["NodeID"] for node in cluster.global_state.node_table() if node["Alive"]]


def warm_up(cluster: Any) -> None:
    """Import what cells need on both nodes, or the first does all before the second has begun."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy as At

    def load() -> None:
        from retainbench.harness.running import cell  # noqa: F401
        from retainbench.harness.scoring import backend  # noqa: F401

    task = ray.remote(load)
    ray.get(
        [task.options(scheduling_strategy=At(node, soft=False)).remote() for node in alive(cluster)]
    )


class Lost(threading.Thread):
    """Kills the second node once both are busy with cells and `after` cells have been finished."""

    def __init__(self, cluster: Any, scratch: Path, run: Path, after: int) -> None:
        super().__init__()
        self.cluster, self.scratch, self.root, self.after = cluster, scratch, run, after
        self.over = threading.Event()
        self.killed = False

    def run(self) -> None:
        while not (self.killed or self.over.wait(0.02)):
            finished = len(list(self.root.glob("cells/*/scorecard.json")))
            busy = len(list(self.scratch.glob("retainbench-*/cells/*/steps.jsonl")))
            if finished >= self.after and busy >= 2:
                node = next(iter(self.cluster.worker_nodes))
                self.cluster.remove_node(node, allow_graceful=False)
                self.killed = True

    def __enter__(self) -> Lost:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.join()


def lose_a_node(
    planned: Plan, cluster: Any, scratch: Path, folder: Path, after: int = 0
) -> list[Scorecard]:
    """Run a plan while a node is lost, and in this process; the tables must be equal."""
    if not cluster.worker_nodes:
        add_node(cluster)
    warm_up(cluster)
    with Lost(cluster, scratch, folder / "ray", after) as lost:
        cards = runner.run(planned, folder / "ray", executor="ray")
    assert lost.killed
    assert not (folder / "ray" / run_ray.INCOMING).exists()
    with one_thread():
        runner.run(planned, folder / "serial")
    for name in ("serial", "ray"):
        reporting.report(folder / name, figures=False)
    for table in TABLES:
        first, second = (folder / name / table for name in ("serial", "ray"))
        assert first.read_bytes() == second.read_bytes()
    return cards


def test_what_the_cluster_lacks_is_named(cluster: Any, tiny_base: Path, tmp_path: Path) -> None:
    greedy = SFT | {"resources": {"cpus": 1, "gpus": 2}}
    planned = plan_of(suite(tiny_base, recipes={"greedy": greedy}))
    with pytest.raises(UsageError, match="'greedy' asks for 1 CPUs and 2 GPUs"):
        runner.run(planned, tmp_path / "greedy", executor="ray")
    with pytest.raises(UsageError, match="--workers is for this machine"):
        runner.run(planned, tmp_path / "both", executor="ray", workers=2)
    inputs = planned.inputs.model_copy(update={"base": "0" * 64})
    with pytest.raises(IntegrityError, match="has another"):
        ray_node.check_node(planned.model_copy(update={"inputs": inputs}))


def test_one_model_is_scored_by_the_cluster(cluster: Any, tiny_base: Path) -> None:
    """Records are those of this process, whoever answered which items."""
    base, names = bases.of_folder(tiny_base), ["capitals", "dates", "countdown"]
    with one_thread():
        alone = joined(evaluate.of_model(base, names, 40))
    for workers in (1, 2):
        shared = shards.of_model(base, names, 40, workers=workers, executor="ray")
        assert joined(shared) == alone
    with pytest.raises(UsageError, match="--workers 3: the Ray cluster has room for 2"):
        joined(shards.of_model(base, names, 40, workers=3, executor="ray"))


def test_a_lost_node_changes_no_table(
    cluster: Any,
    scratch: Path,
    tiny_base: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    recipes = {"sft": SFT, "es": ES, "hopeless": SFT | {"options": {"learning_rate": 1e30}}}
    budget = {"unit": "steps", "amount": 30}
    planned = plan_of(suite(tiny_base, recipes=recipes, budget=budget))
    with caplog.at_level(logging.WARNING, logger="retainbench"):
        cards = lose_a_node(planned, cluster, scratch, tmp_path)
    assert [r for r in caplog.records if "lost with its node or worker" in r.getMessage()]
    assert [card.status for card in cards] == ["done", "done", "failed"]
    assert runner.run(planned, tmp_path / "ray", executor="ray") == cards


@pytest.mark.skipif(not PACKAGED, reason="RETAINBENCH_RAY_SUITE=quick takes two runs of that suite")
def test_a_packaged_suite_loses_a_node_in_the_middle(
    cluster: Any, scratch: Path, tmp_path: Path
) -> None:
    planned = plan_of(loading.load(str(PACKAGED)))
    cards = lose_a_node(planned, cluster, scratch, tmp_path, after=len(planned.cells) // 3)
    assert [card.status for card in cards] == ["done"] * len(planned.cells)
