"""Score one checkpoint by several workers: processes of this machine, or of a Ray cluster.

A worker loads the model once and answers one block of items after another (scoring/blocks.py).
Blocks are the same for any number of workers, and so are the records of workers with equally many
threads; on a CPU their number may change last digits, as OMP_NUM_THREADS does. A task is passed on
as soon as its blocks are answered, so that a kill costs the tasks in flight. Nodes of a cluster
must find the model under the same path.

Command: `retainbench evaluate` and `certify` with `--workers N`, and `--executor ray`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from retainbench.harness.core import extras
from retainbench.harness.core.errors import IntegrityError, UsageError
from retainbench.harness.core.process import quieten
from retainbench.harness.core.records import ItemRecord
from retainbench.harness.models.checked import Base
from retainbench.harness.models.placement import ON_CPU, Placement
from retainbench.harness.running import pool
from retainbench.harness.running.run import Executor
from retainbench.harness.scoring import evaluate
from retainbench.harness.scoring.blocks import ItemBlock, blocks
from retainbench.harness.scoring.engines.opening import OURS, EngineChoice, opened
from retainbench.harness.scoring.engines.protocol import Engine
from retainbench.harness.scoring.evaluate import (
    FIRST_SCORING,
    RepeatScoring,
    affects,
    block_rows,
)
from retainbench.harness.scoring.item_records import to_records
from retainbench.harness.scoring.stored import Evaluate
from retainbench.harness.tasks import catalogue
from retainbench.harness.tasks.catalogue import OWN, Catalogue
from retainbench.harness.tasks.rendering.chat import PLAIN, Rendering

SampleRows = list[dict[str, Any]]
"""lm-eval's sample rows."""


@dataclass(frozen=True)
class ShardedScoring:
    """What every worker is given."""

    model: Base
    limit: int | None = None
    placement: Placement = ON_CPU
    repeat: RepeatScoring = FIRST_SCORING
    tasks: Catalogue = OWN
    rendering: Rendering = PLAIN
    engine: EngineChoice = OURS

    def rows(self, block: ItemBlock) -> SampleRows:
        """In a worker: the answers to one block."""
        quieten()
        [info] = self.tasks.find([block.task])
        return block_rows(
            self._opened(),
            info,
            block,
            limit=self.limit,
            repeat=self.repeat,
            allow_code=self.tasks.allow_code,
            rendering=self.rendering,
        )

    def _opened(self) -> Engine:
        """The engine of this process; another model takes the place of the last one."""
        key = (self.model.digest, self.engine, self.placement, self.repeat, self.rendering.digest)
        if key not in _ENGINES:
            _ENGINES.clear()
            _ENGINES[key] = opened(
                self.engine,
                self.model,
                self.placement,
                self.rendering,
                small_batches=self.repeat.batch,
            )
        return _ENGINES[key]


_ENGINES: dict[tuple[object, ...], Engine] = {}
"""Of a worker process: at most one."""


def scorer(workers: int, executor: Executor = "local") -> Evaluate:
    """What scores a checked model: this process, or workers.

    Raises:
        UsageError: no workers.
    """
    if executor == "slurm":
        raise UsageError("one model is scored by --executor local or ray; slurm is for run")
    if workers < 1:
        raise UsageError(f"--workers {workers}: at least one process scores")
    extras.require("torch")
    if workers == 1 and executor == "local":
        return evaluate.of_model
    return partial(of_model, workers=workers, executor=executor)


def of_model(
    model: Base,
    names: Sequence[str],
    limit: int | None = None,
    *,
    workers: int,
    executor: Executor = "local",
    tasks: Catalogue = OWN,
    **how: Any,
) -> Iterator[list[ItemRecord]]:
    """`evaluate.of_model` by several workers; its other arguments are those of `ShardedScoring`.

    Raises:
        IntegrityError: a worker died, or as `evaluate.by_task`.
        UsageError: no Ray cluster is found.
    """
    scoring = ShardedScoring(model, limit, tasks=tasks, **how)
    infos = [info for info in tasks.find(names) if affects(scoring.repeat, info)]
    for info in infos:
        catalogue.verify_lock(info)
    waiting = {info.name: blocks(info, limit) for info in infos}
    units = [block for listed in waiting.values() for block in listed]
    answered = _on_cluster if executor == "ray" else _side_by_side
    done: dict[ItemBlock, SampleRows] = {}
    left = list(infos)
    for block, rows in answered(scoring, units, min(workers, len(units))):
        done[block] = rows
        while left and all(one in done for one in waiting[left[0].name]):
            info = left.pop(0)
            yield to_records(info, [r for one in waiting[info.name] for r in done.pop(one)], limit)


def _side_by_side(
    scoring: ShardedScoring, units: Sequence[ItemBlock], workers: int
) -> Iterator[tuple[ItemBlock, SampleRows]]:
    calls = [partial(scoring.rows, block) for block in units]
    for number, rows in pool.side_by_side(calls, workers, scoring.placement.device):
        if rows is None:
            raise IntegrityError(
                f"{scoring.model.name}: a worker died while it scored {units[number].task}; it may "
                "have run out of memory. Use fewer --workers"
            )
        yield units[number], rows


def _on_cluster(
    scoring: ShardedScoring, units: Sequence[ItemBlock], workers: int
) -> Iterator[tuple[ItemBlock, SampleRows]]:
    from retainbench.harness.running.clusters.ray import connected

    with connected() as ray:
        from ray.util import ActorPool

        gpus = 1 if scoring.placement.device.startswith("cuda") else 0
        _check_size(ray, workers, gpus)
        actor = ray.remote(ShardActor).options(num_cpus=1, num_gpus=gpus)
        actors = ActorPool([actor.remote(scoring) for _ in range(workers)])
        try:
            rows = actors.map(lambda one, block: one.rows.remote(block), list(units))
            yield from zip(units, rows, strict=True)
        except ray.exceptions.RayTaskError as error:
            raise error.cause from error
        except ray.exceptions.RayError as error:
            raise IntegrityError(
                f"{scoring.model.name}: a worker of the cluster was lost ({type(error).__name__})"
            ) from error


def _check_size(ray: Any, workers: int, gpus: int) -> None:
    """Refuse workers for whom the whole cluster has no room; blocks would wait for them for good.

    Raises:
        UsageError: more workers than CPUs or GPUs.
    """
    has = ray.cluster_resources()
    room = int(min(has.get("CPU", 0), has.get("GPU", 0) if gpus else has.get("CPU", 0)))
    if workers > room:
        raise UsageError(
            f"--workers {workers}: the Ray cluster has room for {room}, with a CPU"
            f"{' and a GPU' if gpus else ''} each. Use fewer --workers"
        )


class ShardActor:
    """A worker on a node of a Ray cluster."""

    def __init__(self, scoring: ShardedScoring) -> None:
        self._scoring = scoring

    def rows(self, block: ItemBlock) -> SampleRows:
        """The answers to one block."""
        return self._scoring.rows(block)
