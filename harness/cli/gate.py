"""The verbs that judge: gate, compare, power. Names and paths in, lines and a code out.

Thin: `gate/command.py` and `study_design/power.py` do the work and are imported when a verb runs,
so that `--help` stays fast. `cli/main.py` registers the functions.
"""

from __future__ import annotations

import os
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import typer

from retainbench.harness.cli import screen, streams
from retainbench.harness.cli.options import Device, Packs, out_folder, refuse_unused
from retainbench.harness.core.errors import UsageError

Run = Annotated[Path | None, typer.Argument(help="A run folder.")]
Policy = Annotated[
    Path | None, typer.Option(help="Policy file (YAML) with margins; default: the run's policy.")
]
Cells = Annotated[
    list[str] | None, typer.Option("--cell", help="Gate this cell only. Repeat for several.")
]
Records = Annotated[Path | None, typer.Option(help="records.jsonl of this side.")]
Results = Annotated[
    Path | None, typer.Option(help="Results of lm-eval, lighteval or Inspect of this side.")
]
ADOPTING = ("axis", "metric", "filter", "cluster", "task", "leave_out")
TASKS = "Tasks of other harnesses (TASK may be a pattern; repeat)"
Axis = Annotated[
    list[str] | None,
    typer.Option(
        rich_help_panel=TASKS,
        metavar="TASK=AXIS",
        help="general (default), numeric, temporal, target or any lower-case word.",
    ),
]
Metric = Annotated[
    list[str] | None,
    typer.Option(
        rich_help_panel=TASKS,
        metavar="TASK=NAME",
        help="Default: reward, acc, exact_match or the first.",
    ),
]
Filter = Annotated[
    list[str] | None,
    typer.Option(
        rich_help_panel=TASKS, metavar="TASK=NAME", help="Filter of lm-eval; default: the first."
    ),
]
Cluster = Annotated[
    list[str] | None,
    typer.Option(
        rich_help_panel=TASKS, metavar="TASK=FIELD", help="Field of an item that names its cluster."
    ),
]
Tier = Annotated[
    Literal["smoke", "standard", "full"],
    typer.Option(help="First 100, first 200 or all items of each task; only full can pass."),
]
Only = Annotated[
    list[str] | None,
    typer.Option("--task", rich_help_panel=TASKS, metavar="TASK", help="Judge these tasks only."),
]
LeaveOut = Annotated[
    list[str] | None,
    typer.Option(rich_help_panel=TASKS, metavar="TASK", help="Do not judge these tasks."),
]
Out = Annotated[
    Path | None,
    typer.Option(
        callback=out_folder,
        help="Folder for gate.json, junit.xml, summary.md, comment.md; flips.html (lost and gained "
        "items) unless a run is gated, whose report.html has them.",
    ),
]
Allow = Annotated[
    bool,
    typer.Option(
        "--allow-inconclusive", help="Exit with 0 instead of 3; the verdict stays INCONCLUSIVE."
    ),
]


def _digest(text: str | None) -> str | None:
    """Callback of an option: an empty pin, as from an unset variable, would pin nothing."""
    if text is not None and not re.fullmatch("[0-9a-fA-F]{64}", text):
        raise UsageError(f"'{text}' is not a SHA-256. Write 64 hexadecimal digits")
    return text and text.lower()


Pin = Annotated[
    str | None,
    typer.Option(
        callback=_digest,
        help="SHA-256 that it must have, from gate.json of a trusted run; else exit 4.",
    ),
]


def gate(
    context: typer.Context,
    run: Run = None,
    policy: Policy = None,
    cell: Cells = None,
    base_records: Records = None,
    candidate_records: Records = None,
    base_results: Results = None,
    candidate_results: Results = None,
    axis: Axis = None,
    metric: Metric = None,
    filter: Filter = None,
    cluster: Cluster = None,
    task: Only = None,
    leave_out: LeaveOut = None,
    pack: Packs = None,
    tier: Tier = "full",
    out: Out = None,
    allow_inconclusive: Allow = False,
    policy_sha256: Pin = None,
    base_sha256: Pin = None,
) -> None:
    """Decide whether candidates kept what their base knew: PASS, REGRESSION or INCONCLUSIVE.

    Exit codes: 0 PASS, 1 REGRESSION, 2 usage, 3 INCONCLUSIVE, 4 integrity failure.
    """
    from retainbench.harness.adoption import choices as adopted
    from retainbench.harness.gate import command as gate_command
    from retainbench.harness.tasks.catalogue import Catalogue

    if run is not None:
        refuse_unused(context, "a run folder", "pack")
    else:
        refuse_unused(context, "records or results", "cell")
    known = Catalogue.of(pack or ())
    chosen = adopted.choices(
        axis or (), metric or (), filter or (), cluster or (), task or (), leave_out or ()
    )
    sources = gate_command.Sources(
        run=run,
        cells=tuple(cell or ()),
        base_records=base_records,
        candidate_records=candidate_records,
        base_results=base_results,
        candidate_results=candidate_results,
        choices=replace(chosen, catalogue=known),
    )
    pins = {"policy": policy_sha256, "base_records": base_sha256}
    finished = gate_command.command(
        sources,
        policy=policy,
        tier=tier,
        out=out,
        allow_inconclusive=allow_inconclusive,
        pinned={name: value for name, value in pins.items() if value},
        environment=os.environ,
    )
    if out:
        from retainbench.harness.report.page import explorer

        explorer.write_for_gate(out, finished, known)
    streams.workflow_commands(gate_command.printable(finished, os.environ).split("\n"))
    raise typer.Exit(finished.exit_code)


def compare(
    context: typer.Context,
    runs: Annotated[list[Path] | None, typer.Argument(help="Two run folders.")] = None,
    base_results: Results = None,
    candidate_results: Results = None,
    axis: Axis = None,
    metric: Metric = None,
    filter: Filter = None,
    cluster: Cluster = None,
    task: Only = None,
    leave_out: LeaveOut = None,
    pack: Packs = None,
    policy: Annotated[Path | None, typer.Option(help="Policy file (YAML) with margins.")] = None,
    out: Out = None,
) -> None:
    """Compare two runs, or pair and gate the results of other harnesses."""
    from retainbench.harness.report import compare as report_compare
    from retainbench.harness.report.table import terminal, text

    if base_results and candidate_results and not runs:
        gate(
            context,
            base_results=base_results,
            candidate_results=candidate_results,
            axis=axis,
            metric=metric,
            filter=filter,
            cluster=cluster,
            task=task,
            leave_out=leave_out,
            pack=pack,
            policy=policy,
            out=out,
        )
    elif runs and len(runs) == 2 and not (base_results or candidate_results):
        refuse_unused(context, "two run folders", *ADOPTING, "pack", "policy", "out")
        found = report_compare.compare_runs(*runs)
        if sys.stdout.isatty():
            screen.show(terminal.grid(found))
        else:
            screen.data(text.markdown_grid(found))
    else:
        raise UsageError("give two run folders, or --base-results DIR and --candidate-results DIR")


def power(
    context: typer.Context,
    what: Annotated[str | None, typer.Argument(help="A run folder, or a suite.")] = None,
    policy: Policy = None,
    base_records: Records = None,
    pilot_records: Annotated[
        list[Path] | None,
        typer.Option(help="Records of the same items scored again. Repeat for several."),
    ] = None,
    pack: Packs = None,
    device: Device = "cpu",
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Show how many items and seeds a policy's margins need, and what the present ones can detect.

    For a suite, scores the base (or takes its records from the cache), again as its noise_floor
    says: a trained candidate changes at least as many answers. A run or --pilot-records gives a
    better estimate.
    """
    from retainbench.harness.study_design import power_table
    from retainbench.harness.suites import loading
    from retainbench.harness.tasks.catalogue import Catalogue

    is_run = what is not None and (Path(what) / "plan.json").is_file()
    if what is None or is_run:
        refuse_unused(context, "a run folder" if is_run else "--base-records", "pack", "device")
    known = Catalogue.of(pack or ())
    chosen = loading.load_policy(policy) if policy else None
    if (what is None) == (base_records is None):
        raise UsageError("name one thing: a run folder, a suite, or --base-records with --policy")
    pilots = pilot_records or []
    if what is None:
        found = power_table.of_records(base_records, pilots, chosen)
    elif is_run:
        found = power_table.of_run(Path(what), pilots, chosen)
    else:
        found = power_table.of_suite(what, pilots, chosen, device, known)
    if json:
        screen.data(found.model_dump_json(indent=1))
    else:
        screen.show(power_table.terminal(found))
