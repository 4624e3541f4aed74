"""Scoring speed against lm-eval's `hf` model: same model and requests, alternating, one process.

The tasks of the core suite and of the packs in use, one by one against lm-eval's batches of 1, 8
and 32, then all core tasks in one call against its `auto`, search for a batch size included, as its
users pay it. Answers are compared as well as times. `items` takes so many items of each task,
evenly spread, because lm-eval needs hours for all of them on a real model and two cores.

Tokens are counted by a hook on the model for both sides alike, so padding counts. Times are wall
seconds and CPU seconds of the process: on a machine shared with others only the second compares.

Command: `python -m results.performance.build scoring`
"""

from __future__ import annotations

import contextlib
import io
import statistics
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM

from results.performance.process import OURS
from retainbench.harness.models import bases, loading
from retainbench.harness.models.inference import SMALL
from retainbench.harness.scoring import sample_rows
from retainbench.harness.scoring.backend import TrieLM
from retainbench.harness.scoring.texts import ask
from retainbench.harness.suites import loading as suite_loading
from retainbench.harness.tasks.catalogue import OWN, Catalogue
from retainbench.harness.tasks.lm_eval_patches import without_warnings

BATCHES = (1, 8, 32)
"""Batch sizes of the peer; users of lm-eval pick one of these, or `auto`."""
CORE, PACKS = "core suite", "packs"
FEW_SHOT = "arithmetic"
"""The core task with five shots in its prompt."""
GOALS = {CORE: 4.0, FEW_SHOT: 15.0}

ABOUT = """lm-eval's `hf` model and ours on the same loaded model and the same requests, in turn.
`times_ours` is a way's median wall time over ours: above 1, ours is faster. `core suite` is the sum
of its tasks, scored one by one; `hf auto` scores them in one call (not measured for a real model on
a CPU: its search scores 64 of the longest request several times). `tokens` are those that went
through the model, padding included."""

Answers = list[tuple[float, bool]]
Work = dict[str, list[Instance]]


class SpeedRow(NamedTuple):
    """One way to score one piece of work; medians over the repeats."""

    work: str
    way: str
    """`retainbench`, or `hf` with its batch size."""
    items: int
    requests: int
    tokens: int
    """Through the model in one run, padding included."""
    unique_nodes: int
    """Distinct (context, token) pairs of the requests, task by task."""
    wall_s: float
    wall_spread_s: float
    """Largest minus smallest."""
    cpu_s: float
    cpu_spread_s: float
    times_ours: float
    """Median wall time over ours: above 1, ours is faster."""
    cpu_times_ours: float
    largest_difference: float
    """Of a log-likelihood, against ours."""
    greedy_differences: int


class _Timed(NamedTuple):
    """One run."""

    answers: Answers
    tokens: int
    nodes: int
    wall_s: float
    cpu_s: float


Runs = dict[str, list[_Timed]]
"""By way, ours first; one for each repeat."""


def bench(
    base: str,
    *,
    repeats: int,
    items: int | None = None,
    task: Sequence[str] = (),
    device: str = "cpu",
    dtype: str = "float32",
    pack: Sequence[Path] = (),
) -> Iterator[SpeedRow]:
    """Measure the core suite, then the packs; rows come as each task is done.

    Args:
        items: items of each task, evenly spread; None takes all.
        task: these tasks instead, without a sum.
    """
    loaded = loading.load(bases.resolve(base).folder, device=device, dtype=dtype)
    core = suite_loading.load("quick").tasks
    tasks = Catalogue.of(pack)
    packed = [name for name, info in tasks.packed.items() if info.kind == "multiple_choice"]
    groups = ((CORE, core), (PACKS, packed)) if not task else ((None, task),)
    for title, names in groups:
        if names:
            yield from _group(loaded, title, requests(names, items, tasks), repeats)


def requests(names: Sequence[str], items: int | None = None, tasks: Catalogue = OWN) -> Work:
    """lm-eval's requests of multiple-choice tasks, of so many items evenly spread."""
    found: Work = {}
    for info in tasks.find(names):
        every = sample_rows.requests(info)
        documents = sorted({request.doc_id for request in every})
        count = min(items or len(documents), len(documents))
        kept = {documents[i] for i in np.linspace(0, len(documents) - 1, count).round().astype(int)}
        found[info.name] = [request for request in every if request.doc_id in kept]
    return found


def _group(
    loaded: loading.Loaded, title: str | None, work: Work, repeats: int
) -> Iterator[SpeedRow]:
    """Rows of each task, and of all together under a title."""
    all_runs: dict[str, Runs] = {}
    for name, asked in work.items():
        all_runs[name] = timed(loaded, asked, BATCHES, repeats)
        yield from rows(name, asked, all_runs[name])
    if title is None:
        return
    whole = [request for asked in work.values() for request in asked]
    together = {
        way: [
            _joined(parts) for parts in zip(*(runs[way] for runs in all_runs.values()), strict=True)
        ]
        for way in next(iter(all_runs.values()))
    }
    if title == CORE and _can_search(loaded.model):
        together |= {"hf auto": timed(loaded, whole, ("auto",), repeats)["hf auto"]}
    yield from rows(title, whole, together)


def _can_search(model: Any) -> bool:
    """Whether lm-eval finds `auto` in time: it scores 64 of the longest request, several times."""
    return model.device.type != "cpu" or model.num_parameters() < SMALL


def timed(
    loaded: loading.Loaded, asked: list[Instance], batches: Sequence[int | str], repeats: int
) -> Runs:
    """Score the requests with our model and with lm-eval at each batch size, alternating."""
    ours = TrieLM(loaded.model, tokenizer=loaded.tokenizer)
    with without_warnings("lm_eval.models.huggingface"):
        ways: dict[str, Any] = {OURS: ours} | {
            f"hf {batch}": HFLM(loaded.model, tokenizer=loaded.tokenizer, batch_size=batch)
            for batch in batches
        }
    ours.loglikelihood(asked[:2])  # the probe and lazy set-up are not part of the figures
    runs: Runs = {way: [] for way in ways}
    for _ in range(repeats):
        for way, taken in runs.items():
            taken.append(_time(loaded.model, ways[way], asked))
    return runs


def _time(model: Any, scorer: Any, asked: list[Instance]) -> _Timed:
    tokens = 0

    def count(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        nonlocal tokens
        tokens += int((kwargs["input_ids"] if "input_ids" in kwargs else args[0]).numel())

    ask.cache_clear()  # texts are tokenised and laid out again, as lm-eval does
    hook = model.register_forward_pre_hook(count, with_kwargs=True)
    with contextlib.redirect_stdout(io.StringIO()):  # lm-eval prints the batch size it found
        wall, cpu = time.perf_counter(), time.process_time()
        answers = scorer.loglikelihood(asked, disable_tqdm=True)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    hook.remove()
    work = scorer.work if isinstance(scorer, TrieLM) else None
    nodes = work.unique_nodes if work else 0
    return _Timed(answers, tokens, nodes, wall, cpu)


def _joined(parts: Sequence[_Timed]) -> _Timed:
    """One task after another."""
    return _Timed(
        answers=[answer for part in parts for answer in part.answers],
        tokens=sum(part.tokens for part in parts),
        nodes=sum(part.nodes for part in parts),
        wall_s=sum(part.wall_s for part in parts),
        cpu_s=sum(part.cpu_s for part in parts),
    )


def rows(name: str, asked: list[Instance], runs: Runs) -> Iterator[SpeedRow]:
    """What the runs took, and how their answers differ from ours."""
    ours = runs[OURS]
    wall0 = statistics.median(run.wall_s for run in ours)
    cpu0 = statistics.median(run.cpu_s for run in ours)
    for way, taken in runs.items():
        walls, cpus = [run.wall_s for run in taken], [run.cpu_s for run in taken]
        pairs = list(zip(taken[0].answers, ours[0].answers, strict=True))
        yield SpeedRow(
            work=name,
            way=way,
            items=len({(request.task_name, request.doc_id) for request in asked}),
            requests=len(asked),
            tokens=taken[0].tokens,
            unique_nodes=ours[0].nodes,
            wall_s=statistics.median(walls),
            wall_spread_s=max(walls) - min(walls),
            cpu_s=statistics.median(cpus),
            cpu_spread_s=max(cpus) - min(cpus),
            times_ours=statistics.median(walls) / wall0,
            cpu_times_ours=statistics.median(cpus) / cpu0,
            largest_difference=max(abs(a[0] - b[0]) for a, b in pairs),
            greedy_differences=sum(a[1] != b[1] for a, b in pairs),
        )


def findings(rows: list[dict[str, Any]]) -> list[str]:
    """What the stored rows show."""
    peers = [row for row in rows if row["way"] != OURS]
    ours = {row["work"]: row for row in rows if row["way"] == OURS}
    best: dict[str, dict[str, Any]] = {}
    for row in peers:
        if row["work"] not in best or row["times_ours"] < best[row["work"]]["times_ours"]:
            best[row["work"]] = row
    said = [
        f"{work}: {row['times_ours']:.1f} times as fast as lm-eval at its best (`{row['way']}`)"
        + (f"; goal {GOALS[work]:g}." if work in GOALS else ".")
        for work, row in best.items()
        if work in (*GOALS, PACKS)
    ]
    least = min((row for row in best.values()), key=lambda row: row["times_ours"])
    tokens = min(row["tokens"] for row in peers if row["work"] == least["work"])
    mine = ours[least["work"]]
    said.append(
        f"Least on {least['work']}: {least['times_ours']:.1f} times as fast as `{least['way']}`. "
        f"lm-eval computes {tokens} tokens there at the fewest, we {mine['tokens']}: no exact "
        f"scorer can compute fewer than {mine['unique_nodes']}."
    )
    more = max(row["tokens"] / row["unique_nodes"] for row in ours.values())
    said.append(f"At most {more:.3f} tokens are computed for each that is distinct (goal 1.1).")
    apart = max(row["largest_difference"] for row in peers)
    differing = sum(row["greedy_differences"] for row in peers)
    said.append(
        f"Log-likelihoods differ by at most {apart:.1e}; greedy flags that differ: {differing}."
    )
    return said
