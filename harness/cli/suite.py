"""The verbs that train, score and publish: run, plan, report, publish.

The verbs that list what there is: suites, methods, bases.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from retainbench.harness.cli import screen
from retainbench.harness.cli.options import (
    AllowCode,
    Device,
    Packs,
    RunFolder,
    SuiteName,
    TrainData,
    out_file,
    out_folder,
)
from retainbench.harness.core.errors import RetainbenchError, UsageError
from retainbench.harness.core.text.escaping import shorten


def run(
    suite: SuiteName,
    out: Annotated[
        Path | None, typer.Option(callback=out_folder, help="Run folder; default: runs/<suite>.")
    ] = None,
    device: Device = "cpu",
    executor: Annotated[
        Literal["local", "ray", "slurm"],
        typer.Option(
            help="Processes of this machine, a Ray cluster ($RAY_ADDRESS or local), or Slurm jobs."
        ),
    ] = "local",
    workers: Annotated[
        int, typer.Option(min=1, help="Cells that train at the same time on this machine.")
    ] = 1,
    report_to: Annotated[
        list[str] | None,
        typer.Option(help="Also log to tensorboard, trackio or wandb. Repeat for several."),
    ] = None,
    pack: Packs = None,
    train_data: TrainData = None,
    allow_code: AllowCode = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Print errors and results only.")
    ] = False,
) -> None:
    """Train and score every cell of a suite and write the tables; continues an interrupted run."""
    from retainbench.harness.api.run import run as run_suite
    from retainbench.harness.report import report

    finished = run_suite(
        suite,
        out,
        device=device,
        executor=executor,
        workers=workers,
        report_to=report_to or (),
        packs=pack or (),
        train_data=train_data or (),
        allow_code=allow_code,
        quiet=quiet,
        notice=(lambda _: None) if quiet else lambda line: screen.notice(shorten(line, 500)),
        command=["retainbench", *sys.argv[1:]],
    )
    screen.show(report.terminal(finished.folder))
    cards = finished.scorecards()
    broken = sum(card.status == "failed" for card in cards)
    screen.line(f"{len(cards) - broken} cells done, {broken} failed.")
    screen.line(f"Tables, report.html and all records: {finished.folder.resolve()}")
    if broken == len(cards):
        raise RetainbenchError("no cell of the suite succeeded")


def plan(
    suite: SuiteName,
    pack: Packs = None,
    train_data: TrainData = None,
    allow_code: AllowCode = False,
    estimate: Annotated[
        bool,
        typer.Option(
            "--estimate",
            help="Also estimate tokens, FLOPs, time and memory from a short probe on this machine.",
        ),
    ] = False,
    device: Device = "cpu",
) -> None:
    """Show the cells that a suite would run, with their ids, and what they would cost."""
    from retainbench.harness.suites import loading
    from retainbench.harness.suites import plan as planning
    from retainbench.harness.tasks.catalogue import Catalogue

    chosen, known = loading.opened(suite, Catalogue.of(pack or (), allow_code=allow_code))
    planned = planning.plan(chosen, planning.gather(chosen, train_data or (), known), known)
    for cell in planned.cells:
        shared = f"  {cell.processes} processes" if cell.processes else ""
        screen.line(f"{cell.id}  {cell.label:40}  {cell.recipe.method:12}  {cell.budget}{shared}")
    screen.line(f"{len(planned.cells)} cells, {len(planned.retention)} retention tasks")
    _show_overlap(planning.overlap_lines(chosen, planned.inputs))
    if estimate:
        from retainbench.harness.study_design import cost_table

        screen.show(cost_table.of_suite(planned, known, device))


def _show_overlap(lines: list[str]) -> None:
    for line in lines:
        screen.line(f"Training data: {shorten(line, 500)}")


def report(
    run: Annotated[Path, typer.Argument(help="A run folder, or a certificate.")],
    out: Annotated[
        Path | None,
        typer.Option(
            callback=out_file, help="Of a certificate: page of lost and gained items (HTML)."
        ),
    ] = None,
    pack: Packs = None,
) -> None:
    """Write tables, figures and the HTML report of a run from its stored scorecards.

    For a certificate, writes a page of its own with the items that were lost and gained: prompt,
    choices and both answers. It checks nothing; `retainbench verify` does.
    """
    from retainbench.harness.certificate import lost_items
    from retainbench.harness.core.files import locks
    from retainbench.harness.report import report as reporting
    from retainbench.harness.tasks.catalogue import Catalogue

    if lost_items.is_certificate(run):
        if out is None:
            raise UsageError(f"{run} is a certificate: name the page to write with --out PAGE.html")
        lost_items.write(run, out, Catalogue.of(pack or ()))
        screen.line(out)
        return
    if out or pack:
        raise UsageError(
            "--out and --pack are for a certificate; a run is reported into its folder"
        )
    with locks.growing(run):
        reporting.report(run)
    screen.show(reporting.terminal(run))


def publish(
    run: RunFolder,
    results: Annotated[
        Path, typer.Argument(callback=out_folder, help="Folder such as results/NAME.")
    ],
) -> None:
    """Copy a run's scorecards and tables to a results folder that can be rebuilt from its rows."""
    from retainbench.harness.report import publish as publishing

    publishing.publish(run, results)
    screen.line(f"Published to {results.resolve()}")
    if (results.parent / "index.py").is_file():  # the repository's own results
        screen.line("To list it and what it shows, run next:")
        screen.line("python -m retainbench.harness.report.publish && python -m results.index")


def suites() -> None:
    """List the suites that are installed, and what each is for."""
    from retainbench.harness.core import origins
    from retainbench.harness.suites import loading

    for name, suite in loading.installed().items():
        comes = "" if suite.distribution == origins.OWN else f" (from {suite.distribution})"
        try:
            screen.line(f"{name:20} {loading.read(name).description}{comes}")
        except RetainbenchError as error:  # of another distribution: ours are tested
            screen.line(f"{name:20} cannot be used{comes}: {error}")
    for line in origins.contents().broken:
        screen.line(line)


def methods() -> None:
    """List the post-training methods with paper, adaptations, anchors and options."""
    from retainbench.harness.suites import describe

    screen.show(describe.terminal())


def list_bases() -> None:
    """List named bases and where they are."""
    from retainbench.harness.models import bases

    for name, folder in bases.named().items():
        screen.line(f"{name:16} {folder if folder.exists() else 'not fetched'}")


def fetch(name: str) -> None:
    """Download a named base and convert it to safetensors in the user's cache."""
    from retainbench.harness.models import fetch as bases_fetch

    screen.line(bases_fetch.fetch(name))
