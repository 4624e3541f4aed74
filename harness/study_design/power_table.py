"""What `retainbench power` prints: the plan of `study_design/power.py` as lines for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from retainbench.harness.core.errors import UsageError
from retainbench.harness.core.text import escaping
from retainbench.harness.core.text.formatting import NONE, brief, counted
from retainbench.harness.core.text.terminal import table
from retainbench.harness.models import bases
from retainbench.harness.models.placement import Placement
from retainbench.harness.scoring import stored
from retainbench.harness.study_design import power_sources
from retainbench.harness.study_design.power import AGAIN, AxisPower, Power, TaskPower, power_plan
from retainbench.harness.suites import loading
from retainbench.harness.tasks.catalogue import OWN, Catalogue
from retainbench.harness.tasks.rendering import chat

if TYPE_CHECKING:
    from rich.console import Group

    from retainbench.harness.core.schema import Policy

Row = tuple[str, ...]

HEAD = ("task", "axis", "items", "variance", "margin", "alone", "joint", "MDE", "power", "shows")
LEGEND = """
Points and items. variance: of a paired difference (discordance); alone, joint: items for power 0.8
of this task or mean, of all mandatory tasks at once; MDE: smallest margin that the present items
pass with power 0.8; power: to pass with the present items; shows: smallest drop they show as a
REGRESSION. All but the last if nothing is lost."""


def of_records(base: Path | None, pilots: Sequence[Path], policy: Policy | None) -> Power:
    """The plan of record files, which need a policy."""
    if base is None or policy is None:
        raise UsageError("--base-records needs --policy: a file with at least `margin: 0.02`")
    return power_plan(base, policy, pilots)


def of_run(run: Path, pilots: Sequence[Path], policy: Policy | None) -> Power:
    """The plan of a run folder, whose own candidates are the pilots."""
    if pilots:
        raise UsageError("a run folder brings its own pilots: leave out --pilot-records")
    return power_sources.power_run(run, policy)


def of_suite(
    reference: str,
    pilots: Sequence[Path],
    policy: Policy | None,
    device: str = "cpu",
    tasks: Catalogue = OWN,
) -> Power:
    """The plan of a suite by name or YAML file; its base is scored unless the cache has it."""
    if Path(reference).is_dir():
        raise UsageError(f"{reference} is not a run folder: it has no plan.json")
    chosen, tasks = loading.opened(reference, tasks)
    from retainbench.harness.scoring import evaluate

    score = partial(evaluate.of_model, placement=Placement(device), tasks=tasks)
    scoring = stored.Scoring(
        evaluate=score,
        settings=stored.scoring_settings(device),
        repeats={
            way: partial(score, repeat=evaluate.REPEAT_SCORINGS[way]) for way in chosen.noise_floor
        },
    ).through(chat.of_folder(bases.resolve(chosen.base).reader, chosen.format))
    return power_sources.power_suite(chosen, policy, scoring, pilots, tasks)


def terminal(found: Power) -> Group:
    """One line per task and axis, then what they give together, the seeds and the legend."""
    from rich.console import Group
    from rich.text import Text

    rows: list[Row] = [*map(_task, found.tasks), *map(_axis, found.axes)]
    lines = [f"\nAll mandatory tasks pass together with power {brief(found.joint_power)}."]
    lines += [
        f"{escaping.terminal(one.recipe)} on {escaping.terminal(one.target)}, {one.axis}: "
        f"{one.seeds_needed or NONE} seeds for a margin of {brief(one.margin, 100)} points "
        f"(measured on {one.seeds})"
        for one in found.seeds
    ]
    if not found.seeds:
        lines.append("Seeds: not known before a run of two or more (`retainbench power RUN`).")
    variances = sorted({task.source for task in found.tasks})
    lines += [LEGEND, f"Variance: {'; '.join(variances)}."]
    if AGAIN in variances:
        lines.append("What training changes comes on top: these are the fewest items. Measure it")
        lines.append("on a run (`retainbench power RUN`) or with --pilot-records.")
    return Group(table(HEAD, rows, "llrrrrrrrr"), Text("\n".join(lines)))


def _task(one: TaskPower) -> Row:
    lucky = " (at chance)" if one.at_chance else ""
    return (
        escaping.terminal(one.task, 40) + lucky,
        one.axis,
        str(one.items),
        brief(one.variance),
        brief(one.margin, 100),
        str(one.items_alone),
        str(one.items_joint),
        brief(one.minimum_detectable_effect, 100),
        brief(one.power_to_pass),
        brief(one.detectable_drop, 100),
    )


def _axis(one: AxisPower) -> Row:
    return (
        f"mean of {counted(one.tasks, 'task')}",
        one.axis,
        str(one.items),
        "",
        brief(one.margin, 100),
        str(one.items_needed),
        "",
        brief(one.minimum_detectable_effect, 100),
        brief(one.power_to_pass),
        "",
    )
