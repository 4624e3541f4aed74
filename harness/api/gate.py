"""Decide about stored records: a run, two files, two DataFrames, or results of another harness."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from retainbench.harness.api.records import pandas, source
from retainbench.harness.core.errors import UsageError
from retainbench.harness.core.schema import Policy
from retainbench.harness.core.verdicts import GateOutcome, GateResult, overall
from retainbench.harness.gate import command
from retainbench.harness.gate.tiers import Tier
from retainbench.harness.report.page import explorer
from retainbench.harness.suites import loading

if TYPE_CHECKING:
    import pandas as pd

    Side: TypeAlias = pd.DataFrame | str | Path
    """Records of one checkpoint: a DataFrame, records.jsonl, or a folder of another harness."""
    Rules: TypeAlias = Policy | Mapping[str, Any] | str | Path
    """A policy, its keys and values, or its YAML file."""


class Gate(NamedTuple):
    """What was decided, and why."""

    results: list[GateResult]
    """One per candidate: what gate.json holds."""
    exit_code: int
    """0 PASS, 1 REGRESSION, 3 INCONCLUSIVE, 4 a candidate that cannot be judged."""
    text: str
    """What the command line prints."""

    @property
    def verdict(self) -> GateOutcome:
        """The worst of all candidates."""
        return overall(self.results)

    def table(self) -> pd.DataFrame:
        """A row per candidate and task: verdict, scores, drop with its interval, margin."""
        return pandas().DataFrame(
            [
                {"candidate": result.label, "verdict": task.verdict} | change_row(task.change)
                for result in self.results
                for task in result.tasks
            ]
        )


def gate(
    run: str | Path | None = None,
    *,
    base: Side | None = None,
    candidate: Side | None = None,
    policy: Rules | None = None,
    cells: Sequence[str] = (),
    tier: Tier = "full",
    out: str | Path | None = None,
) -> Gate:
    """Decide whether candidates kept what their base knew; scores nothing.

    Args:
        run: a run folder; or give `base` and `candidate`.
        policy: needed unless a run brings its own.
        cells: ids of a run's cells; default: all.
        out: folder for gate.json, junit.xml, summary.md, comment.md and, unless a run is gated,
            flips.html.

    Raises:
        UsageError: not one thing to gate, no policy, or cells of what is not a run.
        IntegrityError: records are missing, damaged or cannot be paired.
    """
    pair = base is not None and candidate is not None
    if pair == (run is not None) or (base is None) != (candidate is None):
        raise UsageError("name one thing to gate: a run folder, or base and candidate")
    if cells and run is None:
        raise UsageError("cells: records have none. Leave it out, or name a run folder")
    sources = (
        command.Sources(run=Path(run), cells=tuple(cells))
        if run is not None
        else _sources(base, candidate)
    )
    place = Path(out) if out is not None else None
    found = command.command(sources, policy=rules(policy), tier=tier, out=place)
    if place:
        explorer.write_for_gate(place, found)
    return Gate(found.results, found.exit_code, "\n".join(found.lines))


def _sources(base: Any, candidate: Any) -> command.Sources:
    folders = [isinstance(side, str | Path) and Path(side).is_dir() for side in (base, candidate)]
    if all(folders):
        return command.Sources(base_results=Path(base), candidate_results=Path(candidate))
    return command.Sources(base_records=source(base), candidate_records=source(candidate))


def rules(policy: Rules | None) -> Policy | None:
    """A policy from whatever form it was given in.

    Raises:
        UsageError: naming the key and what is allowed.
    """
    if isinstance(policy, str | Path):
        return loading.load_policy(Path(policy))
    if isinstance(policy, Mapping):
        return loading.parse_policy(dict(policy), "policy")
    return policy


def change_row(change: Any) -> dict[str, Any]:
    """One task's change as a flat row; shares and drops in score points."""
    return {
        "task": change.task,
        "axis": change.axis,
        "n": change.n,
        "base_score": change.base_score,
        "candidate_score": change.candidate_score,
        "drop": change.drop.value,
        "drop_low": change.drop.low,
        "drop_high": change.drop.high,
        "margin": change.margin,
        "lost": change.lost,
        "gained": change.gained,
    }
