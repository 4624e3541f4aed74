"""The verbs that train, score and publish: run, plan, report, publish."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

from retainbench.harness.errors import RetainbenchError
from retainbench.harness.quiet import quieten

screen = Console(highlight=False, width=None if sys.stdout.isatty() else 180)

SuiteName = Annotated[str, typer.Argument(help="Name of a packaged suite, or a YAML file.")]
RunFolder = Annotated[Path, typer.Argument(help="A run folder.")]


def _use_packs(folders: list[Path] | None) -> list[Path] | None:
    """Make the tasks of the packs known, each verified, before the verb runs."""
    if folders:
        from retainbench.harness import tasks

        tasks.use_packs(folders)
    return folders


Packs = Annotated[
    list[Path] | None,
    typer.Option(
        "--pack",
        callback=_use_packs,
        help="A pack of frozen tasks (`retainbench freeze`); a suite gets all of them. Repeat.",
    ),
]


def _allow_task_code(allowed: bool) -> bool:
    if allowed:
        from retainbench.harness import tasks_code

        os.environ[tasks_code.VARIABLE] = "1"
    return allowed


TaskCode = Annotated[
    bool,
    typer.Option(
        "--allow-task-code",
        callback=_allow_task_code,
        help="Let packs be scored by the installed lm-eval's code, where they name it.",
    ),
]
TrainData = Annotated[
    list[Path] | None,
    typer.Option(
        help="JSON Lines that the model was trained on: retention items in it follow the policy's "
        "`contaminated`. Repeat.",
    ),
]
Device = Annotated[str, typer.Option(help="torch device: cpu, cuda, cuda:1, ...")]


def run(
    suite: SuiteName,
    out: Annotated[
        Path | None, typer.Option("--out", help="Run folder; default runs/<suite>.")
    ] = None,
    device: Device = "cpu",
    executor: Annotated[
        Literal["local", "ray"],
        typer.Option(help="This machine, or the Ray cluster at $RAY_ADDRESS or on this machine."),
    ] = "local",
    workers: Annotated[
        int, typer.Option(min=1, help="Processes on this machine that train side by side.")
    ] = 1,
    report_to: Annotated[
        list[str] | None, typer.Option(help="Also log to tensorboard, trackio or wandb; repeat.")
    ] = None,
    pack: Packs = None,
    train_data: TrainData = None,
    allow_task_code: TaskCode = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Print errors and results only.")
    ] = False,
) -> None:
    """Train and score every cell of a suite, resume what was interrupted, write the tables."""
    from retainbench.harness import live, paths, report, sweep
    from retainbench.harness import plan as planning
    from retainbench.harness import run as runner
    from retainbench.harness import suite as suites

    quieten()
    live.check_trackers(report_to or ())
    chosen = suites.load(suite)
    inputs = planning.gather(chosen, train_data or ())
    _say_overlap(planning.overlap_lines(chosen, inputs))
    root = out or Path("runs") / chosen.name
    tell = (lambda _: None) if quiet else (lambda line: typer.echo(line, err=True))
    planned = planning.plan(sweep.resolve(chosen, inputs, root, device, workers, tell), inputs)
    with live.view(planned, quiet=quiet, log=paths.RunFolder(root).progress) as view:
        cards = runner.run(
            planned,
            root,
            device=device,
            executor=executor,
            workers=workers,
            watch=view.step,
            finished=view.finished,
            report_to=tuple(report_to or ()),
        )
    report.report(root)
    screen.print(report.terminal(root))
    broken = sum(card.status == "failed" for card in cards)
    screen.print(f"{len(cards) - broken} cells done, {broken} failed.")
    screen.print(f"Tables, report.html and all records: {root.resolve()}", soft_wrap=True)
    if broken == len(cards):
        raise RetainbenchError("no cell of the suite succeeded")


def plan(suite: SuiteName, pack: Packs = None, train_data: TrainData = None) -> None:
    """Show the cells that a suite would run, with their ids."""
    from retainbench.harness import plan as planning
    from retainbench.harness import suite as suites

    chosen = suites.load(suite)
    planned = planning.plan(chosen, planning.gather(chosen, train_data or ()))
    for cell in planned.cells:
        screen.print(f"{cell.id}  {cell.label:40}  {cell.recipe.method:12}  {cell.budget}")
    screen.print(f"{len(planned.cells)} cells, {len(planned.retention)} retention tasks")
    _say_overlap(planning.overlap_lines(chosen, planned.inputs))


def _say_overlap(lines: list[str]) -> None:
    from retainbench.harness.escaping import terminal

    for line in lines:
        typer.echo(f"Training data: {terminal(line, 500)}")


def report(run: RunFolder) -> None:
    """Write tables, figures and the HTML report of a run from its stored scorecards."""
    from retainbench.harness import report as reporting

    reporting.report(run)
    screen.print(reporting.terminal(run))


def publish(
    run: RunFolder, results: Annotated[Path, typer.Argument(help="Folder such as results/NAME.")]
) -> None:
    """Copy a run's rows and tables to a results folder that can be rebuilt and compared."""
    from retainbench.harness import publish as publishing

    publishing.publish(run, results)
    screen.print(f"Published to {results.resolve()}", soft_wrap=True)
