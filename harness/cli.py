"""The command line: one verb per step of the pipeline.

Each verb parses names and paths, calls one function of the module it is named after and prints. The
exit codes are a stable interface: 0 pass, 1 regression, 2 usage, 3 inconclusive, 4 integrity; a
crash is 4, because Python's own 1 would read as a regression.

Heavy modules are imported inside the verbs, so `retainbench --help` and the torch-free verbs start
fast.
"""

from __future__ import annotations

import logging
import os
import sys
import warnings
from pathlib import Path
from typing import Annotated

import click
import typer
from rich.console import Console

from retainbench.harness.errors import RetainbenchError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Retention and forgetting benchmark for LLM post-training.",
)
bases_app = typer.Typer(no_args_is_help=True, help="Base models that can be used by name.")
app.add_typer(bases_app, name="bases")

screen = Console(highlight=False, width=None if sys.stdout.isatty() else 150)
errors = Console(stderr=True, highlight=False)

SuiteArgument = Annotated[str, typer.Argument(help="Name of a packaged suite, or a YAML file.")]
Out = Annotated[Path | None, typer.Option("--out", help="Run folder; default runs/<suite>.")]
Device = Annotated[str, typer.Option(help="torch device: cpu, cuda, cuda:1, ...")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print errors and results only.")]


@app.command()
def run(
    suite: SuiteArgument,
    out: Out = None,
    device: Device = "cpu",
    workers: Annotated[int, typer.Option(min=1, help="Cells trained side by side.")] = 1,
    report_to: Annotated[list[str] | None, typer.Option(help="trackio, tensorboard, wandb")] = None,
    quiet: Quiet = False,
) -> None:
    """Train and score every cell of a suite, resume what was interrupted, write the tables."""
    from retainbench.harness import live, plan, report
    from retainbench.harness import run as runner
    from retainbench.harness import suite as suites

    quieten()
    chosen = suites.load(suite)
    planned = plan.plan(chosen, plan.gather(chosen))
    root = out or Path("runs") / chosen.name
    with live.view(planned, quiet=quiet) as view:
        cards = runner.run(
            planned,
            root,
            device=device,
            workers=workers,
            watch=view.step,
            finished=view.finished,
            report_to=tuple(report_to or ()),
        )
    report.report(root)
    screen.print(report.terminal(root))
    broken = sum(card.status == "failed" for card in cards)
    screen.print(f"{len(cards) - broken} cells done, {broken} failed. Results: {root.resolve()}")
    if broken == len(cards):
        raise RetainbenchError("no cell of the suite succeeded")


@app.command()
def plan(suite: SuiteArgument) -> None:
    """Show the cells a suite would run, with their ids."""
    from retainbench.harness import plan as planning
    from retainbench.harness import suite as suites

    chosen = suites.load(suite)
    planned = planning.plan(chosen, planning.gather(chosen))
    for cell in planned.cells:
        screen.print(f"{cell.id}  {cell.label:40}  {cell.recipe.method}  {cell.budget}")
    screen.print(f"{len(planned.cells)} cells, {len(planned.retention)} retention tasks")


@app.command()
def report(run: Annotated[Path, typer.Argument(help="A run folder.")]) -> None:
    """Write tables, figures and the HTML report of a run from its stored scorecards."""
    from retainbench.harness import report as reporting

    reporting.report(run)
    screen.print(reporting.terminal(run))


@app.command()
def suites() -> None:
    """List the packaged suites."""
    from retainbench.harness import suite as suite_files

    for name in suite_files.available():
        screen.print(f"{name:20} {suite_files.load(name).description}")


@app.command()
def methods() -> None:
    """List the post-training methods with paper, adaptations, anchors and options."""
    from retainbench.trainers import _describe

    screen.print(_describe.terminal())


@app.command()
def tasks() -> None:
    """List retention tasks and targets with axis, items, chance, version and licence."""
    from retainbench.harness import tasks as task_files

    for info in task_files.discover().values():
        screen.print(
            f"{info.axis:9} {info.name:20} {info.kind:16} {info.n_items:5} items  "
            f"v{info.version}  {info.licence}"
        )


@bases_app.command("list")
def list_bases() -> None:
    """List named bases and where they are."""
    from retainbench.harness import bases

    for name, folder in bases.named().items():
        screen.print(f"{name:16} {folder if folder.exists() else 'not fetched'}")


@bases_app.command()
def fetch(name: str) -> None:
    """Download a named base and convert it to safetensors in the user's cache."""
    from retainbench.harness import bases

    screen.print(bases.fetch(name))


def quieten() -> None:
    """Silence the progress bars and notices of the libraries below; ours are the ones to watch.

    Warnings of theirs are about their own next versions; errors still propagate.
    """
    for name in (
        "TQDM_DISABLE",
        "HF_DATASETS_DISABLE_PROGRESS_BARS",
        "HF_HUB_DISABLE_PROGRESS_BARS",
    ):
        os.environ.setdefault(name, "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    warnings.filterwarnings("ignore", category=FutureWarning)
    for name in ("lm_eval", "datasets", "trl", "peft"):
        logging.getLogger(name).setLevel(logging.ERROR)


def main() -> None:
    """Entry point: run a verb and map what went wrong to the stable exit codes."""
    try:
        code = app(standalone_mode=False)
    except RetainbenchError as error:
        errors.print(f"retainbench: {error}", markup=False, soft_wrap=True)
        sys.exit(error.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except click.exceptions.Abort:
        sys.exit(130)
    except Exception:  # noqa: BLE001 - the last resort: any crash must exit 4, not 1
        errors.print_exception()
        sys.exit(4)
    sys.exit(code or 0)
