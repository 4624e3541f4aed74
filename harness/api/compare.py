"""What changed between two checkpoints, task by task, or between two runs, arm by arm."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from retainbench.harness.api.gate import change_row, rules
from retainbench.harness.api.records import pandas, source
from retainbench.harness.comparison import compare as comparing
from retainbench.harness.core.errors import UsageError
from retainbench.harness.core.schema import Policy

if TYPE_CHECKING:
    import pandas as pd

    from retainbench.harness.api.gate import Rules, Side


def compare(base: Side, candidate: Side, *, policy: Rules | None = None) -> pd.DataFrame:
    """What changed from `base` to `candidate`.

    Of two record files or DataFrames a row per task: scores, drop with its interval, items lost and
    gained. Of two run folders the table that `retainbench compare RUN_A RUN_B` prints, a row per
    arm; its footnotes are in `.attrs["notes"]`.

    Args:
        policy: level of the intervals and margins; default: the policy's defaults. Not for runs,
            which have their own.

    Raises:
        UsageError: a policy for two runs.
        IntegrityError: records are missing, damaged or cannot be paired.
    """
    if not any(
        not isinstance(side, str | Path) or Path(side).is_file() for side in (base, candidate)
    ):
        if policy is not None:
            raise UsageError("policy: two runs have their own. Leave it out")
        return _runs(Path(str(base)), Path(str(candidate)))
    found = comparing.compare(source(base), source(candidate), rules(policy) or Policy())
    return pandas().DataFrame([change_row(change) for change in [*found.targets, *found.tasks]])


def _runs(base: Path, candidate: Path) -> pd.DataFrame:
    from retainbench.harness.report import compare as report_compare

    grid = report_compare.compare_runs(base, candidate)
    table = pandas().DataFrame(grid.cells, columns=grid.head)
    table.attrs.update(title=grid.caption, notes=grid.notes)
    return table
