"""Synthetic runs for the report's tests: plausible scorecards and run folders, some of it hostile.

`scorecards` builds the grid (6 recipes x 2 targets x 3 seeds by default, with trajectories and two
failed cells), `write_run` the folder that `report` reads. Everything is drawn from fixed seeds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from retainbench.harness.comparison.methods import (
    MatchedRow,
    MethodRow,
    Methods,
    RatioRow,
    TrajectoryRow,
)
from retainbench.harness.core.paths import RunFolder, point_name
from retainbench.harness.core.records import (
    AxisChange,
    DivergenceSummary,
    DriftSummary,
    Interval,
    ItemRecord,
    ItemText,
    Ledger,
    PointScore,
    Scorecard,
    TaskChange,
)
from retainbench.harness.core.storage import write_json, write_jsonl
from retainbench.harness.report.table.evidence import CellVerdict, Verdicts, files

HOSTILE = (
    "<script>window.pwned=1</script>",
    "</script><script>window.pwned=2</script>",
    '"><img src=x onerror="window.pwned=3">',
    "{{ 7 * 7 }} {% include 'x' %} ${window.pwned=4}",
    "\u202eright to left\u202c \u2066isolate\u2069",
    "<!--<script> | pipe ` tick \\ back [a](javascript:window.pwned=5)",
    "=cmd|' /C calc'!A0 \\input{/etc/passwd} $x_1^2$ 100% #1 &amp; ~",
)


class Arm(NamedTuple):
    """How a recipe behaves: what it gains and what it loses at the end of its budget."""

    method: str
    adaptation: str
    gain: float
    drop: float
    drift: float
    kl: float


ARMS: dict[str, Arm] = {
    "sft": Arm("sft", "full", 0.24, 0.085, 0.0062, 0.31),
    "sft-lora": Arm("sft", "lora r=16", 0.17, 0.021, 0.0031, 0.12),
    "dft": Arm("dft", "full", 0.15, 0.018, 0.0024, 0.09),
    "grpo": Arm("grpo", "full", 0.12, 0.004, 0.0011, 0.05),
    "es": Arm("es", "full", 0.14, 0.061, 0.0321, 0.16),
    "sft-grpo": Arm("sft+grpo", "full", 0.28, 0.072, 0.0065, 0.35),
}
TASKS: dict[str, tuple[str, ...]] = {
    "general": ("capitals", "elements", "agreement"),
    "numeric": ("arithmetic", "sequences", "quantities"),
    "temporal": ("calendar", "clock", "durations"),
}
FRACTIONS = (0.0, 0.125, 0.25, 0.5, 0.75, 1.0)
KINDS = ("embed", "q", "k", "v", "o", "gate", "up", "down", "norm")
LAYERS = 4
ITEMS = 200


def interval(value: float, half: float = 0.02, n: int = ITEMS, level: float = 0.95) -> Interval:
    """A symmetric interval, as a stand-in for a computed one."""
    low, high = max(value - half, -1.0), min(value + half, 1.0)
    return Interval(value=value, low=low, high=high, level=level, n=n, method="newcombe")


def scorecards(
    arms: dict[str, Arm] = ARMS,
    targets: Sequence[str] = ("countdown", "new_facts"),
    seeds: Sequence[int] = (0, 1, 2),
    tasks: dict[str, tuple[str, ...]] = TASKS,
    failed: Sequence[tuple[str, str, int]] = (("es", "new_facts", 1), ("dft", "new_facts", 2)),
) -> list[Scorecard]:
    """Cells in the order of a plan: target, recipe, seed."""
    return [
        card(name, arms[name], target, seed, tasks, (name, target, seed) in failed)
        for target in targets
        for name in arms
        for seed in seeds
    ]


def card(
    name: str, arm: Arm, target: str, seed: int, tasks: dict[str, tuple[str, ...]], failed: bool
) -> Scorecard:
    """One cell; a failed one has no points."""
    rng = np.random.default_rng([seed, sum(map(ord, name + target))])
    points = [] if failed else [_point(arm, target, f, tasks, rng) for f in FRACTIONS]
    return Scorecard(
        cell=f"{target[:4]}-{name}-{seed}",
        base="fruitfly",
        target=target,
        recipe=name,
        method=arm.method,
        adaptation=arm.adaptation,
        seed=seed,
        budget="3e+12 flops",
        status="failed" if failed else "done",
        reason="loss became NaN at step 41 " + HOSTILE[seed] if failed else None,
        points=points,
        metrics={"loss": 1.25, "clip_share": 0.02},
        trainable_parameters=988_000 if arm.adaptation == "full" else 65_536,
        total_parameters=988_000,
        provenance={
            "retainbench": "0.1.0",
            "commit": "0123abc",
            "device": "cpu",
            "base_digest": "ab" * 32,
            "command": f"retainbench run quick --title {HOSTILE[0]}",
        },
    )


def _point(
    arm: Arm,
    target: str,
    fraction: float,
    tasks: dict[str, tuple[str, ...]],
    rng: np.random.Generator,
) -> PointScore:
    progress = 1 - math.exp(-3 * fraction)
    noise = 0.0 if fraction == 0 else 0.008
    gain = arm.gain * progress + float(rng.normal(0, noise))
    harm = {"general": 0.8, "numeric": 1.3, "temporal": 0.6 if target == "countdown" else 1.1}
    changes = [
        _task(name, axis, arm.drop * fraction * harm[axis] + float(rng.normal(0, noise)), rng)
        for axis, names in tasks.items()
        for name in names
    ]
    return PointScore(
        stage=0,
        fraction=fraction,
        ledger=Ledger(
            steps=int(100 * fraction),
            samples=int(6400 * fraction),
            forward_tokens=int(900_000 * fraction),
            backward_tokens=0 if arm.method == "es" else int(500_000 * fraction),
            flops=3e12 * fraction,
            seconds=31.4 * fraction,
            peak_memory_bytes=412_000_000,
        ),
        weights_digest="cd" * 32,
        base_reward=0.31,
        candidate_reward=0.31 + gain,
        gain=interval(gain, 0.0 if fraction == 0 else 0.03),
        base_valid=0.96,
        candidate_valid=0.99,
        tasks=changes,
        axes=[_axis(axis, [c for c in changes if c.axis == axis]) for axis in tasks],
        drift=_drift(arm, fraction, rng),
        divergence=DivergenceSummary(
            forward={
                "target": arm.kl * progress,
                **{axis: arm.kl * 0.4 * progress * harm[axis] for axis in tasks},
            },
            reverse={"target": arm.kl * 0.9 * progress},
            tokens={"target": 1024, **dict.fromkeys(tasks, 1024)},
            estimator="exact per token on base samples",
        ),
    )


def _task(name: str, axis: str, drop: float, rng: np.random.Generator) -> TaskChange:
    net = round(drop * ITEMS)
    gained = 0 if drop == 0 else int(rng.integers(2, 9))
    lost = max(gained + net, 0)
    return TaskChange.model_validate(
        {
            "task": f"rb_{name}",
            "axis": axis,
            "n": ITEMS,
            "clusters": 50,
            "chance": 0.25,
            "base_score": 0.92,
            "candidate_score": 0.92 - drop,
            "drop": interval(drop, 0.0 if drop == 0 else 0.03),
            "soft_drop": interval(drop * 0.9, 0.01),
            "lost": lost,
            "gained": gained,
            "churn": (lost + gained) / ITEMS,
            "forgetting_chance_adjusted": lost / ITEMS - 0.004,
            "backward_transfer_chance_adjusted": gained / ITEMS - 0.004,
            "base_valid": 1.0,
            "candidate_valid": 1.0,
            "base_at_chance": False,
            "mcnemar_p": 0.4,
            "minimum_detectable_effect": 0.041,
        }
    )


def _axis(axis: str, changes: Sequence[TaskChange]) -> AxisChange:
    drop = float(np.mean([change.drop.value for change in changes])) / 0.75
    half = 0.0 if drop == 0 else 0.024
    return AxisChange.model_validate(
        {
            "axis": axis,
            "tasks": len(changes),
            "n": sum(change.n for change in changes),
            "base_score": 0.89,
            "candidate_score": 0.89 - drop,
            "drop": interval(drop, half, sum(change.n for change in changes)),
            "soft_drop": interval(drop * 0.9, half / 2),
            "lost": sum(change.lost or 0 for change in changes),
            "gained": sum(change.gained or 0 for change in changes),
        }
    )


def _drift(arm: Arm, fraction: float, rng: np.random.Generator) -> DriftSummary:
    share = rng.dirichlet(np.ones(len(KINDS)))
    depth = rng.dirichlet(np.ones(LAYERS + 1))
    sparse = 0.72 if "grpo" in arm.method else 0.08
    moved = arm.drift * math.sqrt(fraction)
    es = arm.method == "es"
    return DriftSummary(
        frobenius=moved * 212.0,
        relative=moved,
        changed_parameters=int(988_000 * (1 - sparse)) if fraction else 0,
        parameters=988_000,
        unchanged_exact=sparse if fraction else 1.0,
        unchanged_1e5=sparse + 0.1 if fraction else 1.0,
        unchanged_bf16=sparse + 0.2 if fraction else 1.0,
        cosine=1.0 - moved**2 / 2,
        by_kind=dict(zip(KINDS, share.tolist(), strict=True)),
        by_layer=dict(zip([*map(str, range(LAYERS)), "outside"], depth.tolist(), strict=True)),
        relative_by_kind={
            kind: moved * float(rng.uniform(0.4, 1.8)) if fraction else 0.0 for kind in KINDS
        },
        es_null=moved * 205.0 if es else None,
        over_null=1.06 if es and fraction else None,
        dtypes="float32 / float32 / float32",
    )


def many_cells(cells: int, tasks: int) -> list[Scorecard]:
    """Scorecards of a large suite: recipes x 2 targets x 2 seeds with many retention tasks."""
    names = {axis: tuple(f"{axis}{n}" for n in range(tasks // 3)) for axis in TASKS}
    arms = {f"sft-{n}": ARMS["sft"] for n in range(cells // 4)}
    return scorecards(arms, seeds=(0, 1), tasks=names, failed=())


def write_run(
    root: Path, cards: Sequence[Scorecard], items: int = 20, flip_share: float = 0.2
) -> RunFolder:
    """Write the files of a finished run: scorecards, item texts, base and end-point records."""
    run = RunFolder(root)
    write_jsonl(run.scorecards, cards)
    tasks = {task.task: task.axis for c in cards for point in c.points for task in point.tasks}
    for task in tasks:
        write_jsonl(run.items(task), [_text(task, number) for number in range(items)])
    base = [_record(t, a, n, 1.0 if n % 4 else 0.0) for t, a in tasks.items() for n in range(items)]
    for name in {c.base for c in cards}:
        write_jsonl(run.base_point(name).records, base)
    for number, cell in enumerate(c for c in cards if c.points):
        rng = np.random.default_rng(number)
        end = cell.points[-1]
        flips = rng.random(len(base)) < flip_share
        records = [
            _record(b.task, b.axis, int(b.item_id.split("-")[1]), 1 - b.score if flip else b.score)
            for b, flip in zip(base, flips, strict=True)
        ]
        point = run.cell(cell.cell).point(point_name(end.stage, end.fraction))
        write_jsonl(point.records, records)
    return run


def write_evidence(root: Path, cards: Sequence[Scorecard]) -> None:
    """Write verdicts.json and methods.json as the gate and the comparison would."""
    said = ("PASS", "INCONCLUSIVE", "REGRESSION")
    cells = {
        card.cell: CellVerdict(verdict=said[n % 3], reasons=["numeric: above its margin"] * (n % 3))
        for n, card in enumerate(cards)
        if card.points
    }
    write_json(files(root).verdicts, Verdicts(cells=cells))
    done = {card.recipe: card for card in cards if card.points}
    arms = dict.fromkeys((card.base, card.target, card.recipe) for card in cards if card.points)
    rows = [_method(*arm, done[arm[2]].points[-1]) for arm in arms]
    write_json(files(root).methods, Methods(rows=rows, absent={}))


def _method(base: str, target: str, recipe: str, end: PointScore) -> MethodRow:
    path = TrajectoryRow(worst=0.09, worst_at=0.75, end=0.08, area=0.04, recovery=0.01)
    slow = recipe == "grpo"
    matched = MatchedRow(
        gain=0.13,
        drop=None if slow else 0.02,
        low=None if slow else 0.01,
        high=None if slow else 0.04,
        reason="not reached" if slow else None,
    )
    ratio = RatioRow(value=37.5, low=30.0, high=44.0, reason=None)
    return MethodRow(
        base=base,
        target=target,
        recipe=recipe,
        seeds=[0, 1, 2],
        gain=end.gain,
        drops={change.axis: change.drop for change in end.axes},
        trajectories={change.axis: path for change in end.axes},
        matched={change.axis: matched for change in end.axes},
        gain_per_drift=ratio,
        gain_per_kl=ratio,
        on_front=not slow,
        dominated_by=["sft-lora"] if slow else [],
        tied_with=[],
    )


def _text(task: str, number: int) -> ItemText:
    hostile = HOSTILE[number % len(HOSTILE)]
    return ItemText(
        task=task,
        item_id=f"i-{number}",
        doc_hash=f"{number:064x}",
        prompt=f"Question: What is item {number} of {task}? {hostile}\nAnswer:",
        choices=["Paris", "Rome", hostile, "Oslo"] if number % 2 else None,
        gold="Paris",
    )


def _record(task: str, axis: str, number: int, score: float) -> ItemRecord:
    return ItemRecord.model_validate(
        {
            "task": task,
            "axis": axis,
            "item_id": f"i-{number}",
            "doc_hash": f"{number:064x}",
            "prompt_hash": "p",
            "target_hash": "t",
            "metric": "acc",
            "cluster": f"c{number % 5}",
            "chance": 0.25,
            "score": score,
            "soft_score": 0.25 + 0.5 * score,
            "response": "Paris" if score else HOSTILE[number % len(HOSTILE)],
            "choice_logprobs": [-1.0, -2.0, -3.0, -4.0],
            "gold": 0,
        }
    )
