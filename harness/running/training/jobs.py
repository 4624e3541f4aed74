"""One stage of a cell -> the job that its trainer gets.

The points of the trajectory that fall into the stage, the model it starts from, its target, options
and share of the budget. `study_design` makes the same jobs to measure what they cost.
"""

from __future__ import annotations

from pathlib import Path

from retainbench.harness.core import paths
from retainbench.harness.core.records import CheckpointRecord, Ledger
from retainbench.harness.core.schema import Budget
from retainbench.harness.core.stages import INTERPOLATE
from retainbench.harness.models import checked, loading
from retainbench.harness.running.training.damage import require_trained
from retainbench.harness.running.training.general_text import texts_of
from retainbench.harness.suites import methods, teachers
from retainbench.harness.suites.plan import Cell
from retainbench.harness.tasks import catalogue
from retainbench.harness.tasks.catalogue import OWN, Catalogue
from retainbench.harness.tasks.rendering import answers
from retainbench.harness.tasks.rendering.chat import PLAIN, Rendering
from retainbench.trainers._shared.contract import Job, Target, TrainingError


def make_job(
    cell: Cell,
    stage: int,
    base: Path,
    folder: paths.CellFolder,
    before: list[CheckpointRecord],
    device: str,
    tasks: Catalogue,
    rendering: Rendering = PLAIN,
) -> Job:
    """The job of one stage: the points of the trajectory that fall into it, and its end.

    Those of an interpolation are its weights.
    """
    spec = cell.recipe.stages[stage]
    spent = before[-1].ledger if before else Ledger()
    begin, end = stage_span(cell, stage, spent)
    options = methods.options(spec, tasks.methods)
    if spec.method == INTERPOLATE:
        points = tuple((paths.point_name(stage, w), w) for w in sorted(options.weights))
    else:
        inside = [f for f in cell.trajectory if (begin < f < end) or (f == 0.0 and stage == 0)]
        points = tuple(
            (paths.point_name(stage, fraction), (fraction - begin) / (end - begin))
            for fraction in [*inside, end]
        )
    return Job(
        base=stage_base(folder, before) if before else base,
        reference=base,
        target=load_target(spec.target or cell.target, tasks, rendering),
        adaptation=spec.adaptation,
        options=options,
        anchor=spec.anchor,
        budget=Budget(unit=cell.budget.unit, amount=cell.budget.amount * (end - begin)),
        spent=spent,
        points=points,
        seed=cell.seed,
        stage=stage,
        out=folder.root,
        device=device,
        dtype=cell.dtype,
        replay=spec.replay,
        texts=texts_of(spec, base, cell.seed, tasks, device),
        teacher=teachers.find(spec.teacher, checked.check(base), tasks) if spec.teacher else None,
    )


def stage_span(cell: Cell, stage: int, spent: Ledger) -> tuple[float, float]:
    """Begin and end of a stage as shares of the cell's budget; an interpolation has none of it.

    It begins where the stage before it stopped, a step past its own end perhaps, so that a recipe
    of many stages overshoots the budget by no more than one step.

    Raises:
        TrainingError: the stages before have spent this one's share too.
    """
    if stage == len(cell.recipe.trained):
        return 1.0, 1.0  # an interpolation
    shares = [stage.share for stage in cell.recipe.trained]
    end = sum(shares[: stage + 1]) / sum(shares)
    if not cell.budget.amount:
        return sum(shares[:stage]) / sum(shares), end
    begin = spent.used(cell.budget.unit) / cell.budget.amount
    if begin >= end:
        raise TrainingError(
            f"stage {stage} has no budget: the stages before it spent {begin:.0%} of the recipe's, "
            f"and it ends at {end:.0%}; use a larger budget or smaller steps"
        )
    return begin, end


def stage_base(folder: paths.CellFolder, before: list[CheckpointRecord]) -> Path:
    """A full checkpoint to start the next stage from: adapters are merged first.

    Raises:
        DamagedError: the checkpoint is not the one that was trained.
    """
    last = folder.root / before[-1].folder
    require_trained(last, before[-1])
    if not (last / "adapter_config.json").exists():
        return last
    merged = last.with_name(last.name + "-merged")
    loading.save(loading.load(last), merged)
    return merged


def load_target(name: str, tasks: Catalogue = OWN, rendering: Rendering = PLAIN) -> Target:
    """A target's training and validation items and its reward; its test items stay out.

    All of them are rendered once here: a chat template runs in a process of its own, which takes a
    second to start.
    """
    info = tasks.tasks[name]
    reward = catalogue.reward(info)
    target = Target(
        name=name,
        train=catalogue.split(info, "train"),
        validation=catalogue.split(info, "validation"),
        reward=answers.judging(reward.reward, info.answer),
        valid=answers.judging(reward.valid, info.answer),
        max_new_tokens=info.max_new_tokens,
        template=info.template,
        rendering=rendering,
        stop=info.stop,
    )
    if rendering.chat is not None:
        target.completions([*target.train, *target.validation])
    return target
