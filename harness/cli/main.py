"""The command line: one verb per step of the pipeline.

Each verb parses names and paths, calls one function and prints. The verbs stand in `cli_*.py`, by
who uses them; all import what they need when they run, so `--help` and the torch-free verbs start
fast. Exit codes are a stable interface: 0 pass, 1 regression, 2 usage, 3 inconclusive, 4 integrity;
a crash is 4, because Python's own 1 would read as a regression.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import click
import typer
from rich.console import Console

from retainbench.harness.cli import certify as cli_certify
from retainbench.harness.cli import gate as cli_gate
from retainbench.harness.cli import measure as cli_measure
from retainbench.harness.cli import suite as cli_lists
from retainbench.harness.cli import suite as cli_suite
from retainbench.harness.cli import tasks as cli_tasks
from retainbench.harness.core.errors import RetainbenchError
from retainbench.harness.core.escaping import visible

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Retention and forgetting benchmark for LLM post-training.",
)
bases_app = typer.Typer(no_args_is_help=True, help="Base models that can be used by name.")

PANELS: dict[str, tuple[Callable[..., None], ...]] = {
    "Publish": (
        cli_suite.run,
        cli_suite.plan,
        cli_suite.report,
        cli_suite.publish,
        cli_gate.compare,
    ),
    "Certify and gate": (
        cli_certify.certify,
        cli_certify.verify,
        cli_certify.export,
        cli_gate.gate,
        cli_gate.power,
    ),
    "Measure": (cli_measure.evaluate, cli_measure.drift, cli_measure.sensitivity),
    "What there is": (cli_tasks.tasks, cli_tasks.freeze, cli_lists.suites, cli_lists.methods),
}
for panel, verbs in PANELS.items():
    for verb in verbs:
        app.command(rich_help_panel=panel)(verb)
bases_app.command("list")(cli_lists.list_bases)
bases_app.command("fetch")(cli_lists.fetch)
app.add_typer(bases_app, name="bases", rich_help_panel="What there is")


def main() -> None:
    """Entry point: run a verb and map what went wrong to the stable exit codes."""
    errors = Console(stderr=True, highlight=False)
    try:
        code = app(standalone_mode=False)
    except RetainbenchError as error:
        errors.print(f"retainbench: {visible(str(error))}", markup=False, soft_wrap=True)
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
