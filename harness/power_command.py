"""What `retainbench power` prints: the plan of `power.py` as lines for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from retainbench.harness.errors import UsageError
from retainbench.harness.escaping import terminal
from retainbench.harness.power import Power, power_plan, power_run
from retainbench.harness.report_format import NONE, brief

if TYPE_CHECKING:
    from retainbench.harness.suite import Policy

HEAD = ("task", "axis", "items", "variance", "margin", "alone", "joint", "MDE", "power", "shows")
LEGEND = """
Points and items. variance: of a paired difference (discordance); alone, joint: items for power 0.8
of this task, of all mandatory tasks at once; MDE: smallest margin that the present items pass with
power 0.8; power: to pass with the present items; shows: smallest drop they show as a REGRESSION.
All but the last if nothing is lost."""


def plan(
    run: Path | None, base: Path | None, pilots: Sequence[Path], policy: Policy | None
) -> Power:
    """The plan of a run folder, or of record files (which need a policy)."""
    if run is not None:
        if not (run / "plan.json").is_file():
            raise UsageError(f"{run} is not a run folder: it has no plan.json")
        return power_run(run, policy)
    if base is None or policy is None:
        raise UsageError("--base-records needs --policy: a file with at least `margin: 0.02`")
    return power_plan(base, policy, pilots)


def table(found: Power) -> str:
    """One line per task and per method, widest first column, then the legend."""
    rows = [HEAD]
    for task in found.tasks:
        lucky = " (at chance)" if task.at_chance else ""
        rows.append(
            (
                terminal(task.task, 40) + lucky,
                task.axis,
                str(task.items),
                brief(task.variance),
                brief(task.margin, 100),
                str(task.items_alone),
                str(task.items_joint),
                brief(task.minimum_detectable_effect, 100),
                brief(task.power_to_pass),
                brief(task.detectable_drop, 100),
            )
        )
    widths = [max(len(row[i]) for row in rows) for i in range(len(HEAD))]
    lines = ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) for row in rows]
    lines.append(f"\nAll mandatory tasks pass together with power {brief(found.joint_power)}.")
    lines += [
        f"{terminal(one.recipe)} on {terminal(one.target)}, {one.axis}: "
        f"{one.seeds_needed or NONE} seeds for a margin of {brief(one.margin, 100)} points "
        f"(measured on {one.seeds})"
        for one in found.seeds
    ]
    variances = sorted({task.source for task in found.tasks})
    return "\n".join([*lines, LEGEND, f"Variance: {'; '.join(variances)}."])
