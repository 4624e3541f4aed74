"""What `--estimate` prints for a suite or a certificate: the costs as tables for a terminal."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from retainbench.harness.core.recipes import FEW_UPDATES
from retainbench.harness.core.schema import Policy, Suite
from retainbench.harness.core.stages import INTERPOLATE
from retainbench.harness.core.text import escaping
from retainbench.harness.core.text.formatting import NONE, brief, counted, duration, flops, listed
from retainbench.harness.core.text.terminal import table
from retainbench.harness.gate.tiers import TYPICAL_DISCORDANCE
from retainbench.harness.models import bases, loading
from retainbench.harness.models.checked import Base
from retainbench.harness.models.loading import Loaded
from retainbench.harness.models.placement import Placement
from retainbench.harness.study_design import cost, training_cost
from retainbench.harness.study_design.cost import Cost, TaskCost
from retainbench.harness.study_design.training_cost import StageCost
from retainbench.harness.suites.plan import Cell, Plan, policy_of, scored_targets
from retainbench.harness.tasks.catalogue import Catalogue
from retainbench.harness.tasks.rendering import chat
from retainbench.harness.tasks.rendering.chat import Rendering
from retainbench.trainers._shared.budget import peak_memory_bytes

if TYPE_CHECKING:
    from rich.console import Group

HEAD = ("part", "", "tokens", "FLOPs", "time")
STAGES = ("recipe", "target", "stage", "updates", "each", "probed")
TASKS = ("task", "axis", "items", "tokens", "time", "shows, pp")
SHOWS = (
    "shows: smallest true drop that the items show as a REGRESSION with power 0.8 if "
    f"{100 * TYPICAL_DISCORDANCE:g} % of the other answers change too; `retainbench power SUITE` "
    "measures how many do."
)


class Part(NamedTuple):
    """A line of the estimate."""

    name: str
    what: str
    cost: Cost


def of_suite(plan: Plan, tasks: Catalogue, device: str) -> Group:
    """Training, scoring and KL of a whole run.

    Raises:
        UsageError, IntegrityError: the base cannot be loaded, or a task differs from its lock.
    """
    started = time.monotonic()
    suite, base = plan.suite, bases.resolve(plan.suite.base)
    rendering = chat.of_folder(base.reader, suite.format)
    loaded = loading.load(base, device=device)
    targets = list(dict.fromkeys(name for cell in plan.cells for name in scored_targets(cell)))
    scored = cost.of_tasks(
        loaded,
        tasks.find([*plan.retention, *targets]),
        policy_of(suite),
        most=suite.items_per_task,
        allow_code=tasks.allow_code,
        rendering=rendering,
    )
    names = [targets[0], *plan.retention]
    diverged = cost.of_divergence(loaded, names, suite, tasks, rendering)
    weights = _weights(loaded)
    del loaded
    trained = training_cost.of_plan(plan, base, tasks, rendering, device)
    checkpoints = sum(_scored_points(cell) for cell in plan.cells)
    retention = cost.total([one.cost for one in scored if one.info.kind != "target"])
    on_targets = cost.total([one.cost for one in scored if one.info.kind == "target"])
    share = sum(len(scored_targets(cell)) for cell in plan.cells) / len(plan.cells) / len(targets)
    again = len(suite.noise_floor)
    parts = [
        Part("training", counted(len(plan.cells), "cell"), trained.cells),
        Part("sweep", counted(trained.number_of_variants, "variant"), trained.variants),
        Part(
            "base",
            f"once, retention {1 + again} times",
            retention.times(1 + again).plus(on_targets),
        ),
        Part(
            "scoring",
            counted(checkpoints, "checkpoint"),
            retention.plus(on_targets.times(share)).times(checkpoints),
        ),
        Part("KL", counted(checkpoints, "checkpoint"), diverged.times(checkpoints)),
    ]
    notes = [
        *_shallow(trained.stages),
        *trained.unknown,
        f"From a probe of {duration(time.monotonic() - started)} on this machine ({device}), for "
        "one worker that trains in one process; drift and tables are not in it.",
        _memory(weights, 1, device),
    ]
    return _shown([part for part in parts if part.cost.tokens], scored, notes, trained.stages)


def of_certificate(
    base: Base,
    suite: Suite,
    policy: Policy,
    names: Sequence[str],
    repeats: int,
    tasks: Catalogue,
    rendering: Rendering,
    placement: Placement,
) -> Group:
    """Scoring of base and candidate, the base's repeat scorings, and KL.

    Args:
        names: tasks that are scored.
        repeats: further scorings of the base; the smoke tier has none, and no KL.
    """
    started = time.monotonic()
    loaded = loading.load(base, **placement._asdict())
    scored = cost.of_tasks(
        loaded,
        tasks.find(names),
        policy,
        most=suite.items_per_task,
        allow_code=tasks.allow_code,
        rendering=rendering,
    )
    once = cost.total([one.cost for one in scored])
    parts = [
        Part("candidate", "once", once),
        Part("base", counted(1 + repeats, "scoring"), once.times(1 + repeats)),
    ]
    if repeats and suite.divergence_prompts:
        retention = [one.info.name for one in scored if one.info.kind != "target"]
        diverged = cost.of_divergence(loaded, retention, suite, tasks, rendering)
        parts.append(Part("KL", "", diverged))
    notes = [
        f"From a probe of {duration(time.monotonic() - started)} on this machine; drift is not in "
        "it. The base's records are taken from the cache where they are in it.",
        _memory(_weights(loaded), 2, placement.device),
    ]
    return _shown(parts, scored, notes)


def _scored_points(cell: Cell) -> int:
    """Checkpoints of a cell; the one of share 0 is the base, whose records are there already."""
    between = sum(
        len(stage.options["weights"]) for stage in cell.recipe.stages if stage.method == INTERPOLATE
    )
    ends = len(cell.recipe.trained)
    return len({share for share in cell.trajectory if 0 < share < 1}) + ends + between


class _Weights(NamedTuple):
    """What a loaded model's weights take."""

    size: int
    """Bytes."""
    dtype: str


def _weights(loaded: Loaded) -> _Weights:
    size = sum(part.numel() * part.element_size() for part in loaded.model.parameters())
    return _Weights(size, str(loaded.model.dtype).removeprefix("torch."))


def _memory(weights: _Weights, models: int, device: str) -> str:
    """What the probe took with one model, and what further copies of the weights add."""
    if device.startswith("cuda"):
        import torch

        peak = torch.cuda.max_memory_allocated(device)
    else:
        peak = peak_memory_bytes()
    return (
        f"Memory: {(peak + (models - 1) * weights.size) / 1e9:.1f} GB on "
        f"{device.partition(':')[0]}; the weights are {weights.size / 1e9:.3g} GB in "
        f"{weights.dtype}."
    )


def _shallow(stages: Sequence[StageCost]) -> list[str]:
    """The stages that the table of results would mark, before they are trained."""
    few = [
        f"{stage.recipe} ({stage.whole_updates})"
        for stage in stages
        if stage.whole_updates < FEW_UPDATES
    ]
    if not few:
        return []
    return [
        f"* Fewer than {FEW_UPDATES} updates in a stage, which says little about a method: "
        f"{listed(few)}. Raise the budget or, where it does not count steps, make updates smaller."
    ]


def _shown(
    parts: Sequence[Part],
    scored: Sequence[TaskCost],
    notes: Sequence[str],
    stages: Sequence[StageCost] = (),
) -> Group:
    from rich.console import Group
    from rich.text import Text

    rows = [(part.name, part.what, *_numbers(part.cost)) for part in parts]
    rows.append(("total", "", *_numbers(cost.total([part.cost for part in parts]))))
    tasks = [
        (
            one.info.name,
            one.info.axis,
            f"{one.items:,}" + (f" x {one.info.repeats}" if one.info.repeats > 1 else ""),
            _count(one.cost.tokens),
            duration(one.cost.seconds),
            NONE if one.detectable is None else f"{100 * one.detectable:.1f}",
        )
        for one in scored
    ]
    per_task = table(TASKS, tasks, "llrrrr", "One checkpoint on every task")
    updates = [
        (
            one.recipe,
            one.target,
            one.method,
            f"{one.whole_updates:,}" + ("*" if one.whole_updates < FEW_UPDATES else ""),
            brief(one.update.cost.seconds, unit=" s"),
            str(one.update.probed),
        )
        for one in stages
    ]
    per_stage = table(STAGES, updates, "lllrrr", "Updates that the budget pays for"), Text("")
    lines = [Text(escaping.visible(line)) for line in (SHOWS, *notes)]
    estimate = table(HEAD, rows, "llrrr", "Estimate")
    return Group(estimate, Text(""), *(per_stage if stages else ()), per_task, Text(""), *lines)


def _numbers(one: Cost) -> tuple[str, str, str]:
    return _count(one.tokens), flops(one.flops), duration(one.seconds)


def _count(number: float) -> str:
    """A number of tokens.

    >>> _count(950.0), _count(12_345.0), _count(3.21e9)
    ('950', '12.3 k', '3.21 G')
    """
    for factor, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= factor:
            return f"{number / factor:.3g} {prefix}"
    return f"{number:.0f}"
