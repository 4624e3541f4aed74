"""The command line: one verb per step of the pipeline.

Each verb parses names and paths, calls one function and prints. The verbs are in the other files of
this room, by who uses them; all import what they need when they run, so `--help` and the torch-free
verbs start fast. Exit codes are a stable interface: 0 pass, 1 regression, 2 usage, 3 inconclusive,
4 integrity, 70 a bug of retainbench (with its traceback), 130 interrupted. Python's own 1 for a
crash would read as a regression.
"""

from __future__ import annotations

import errno
import importlib.metadata
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import typer

from retainbench.harness.cli import certify as cli_certify
from retainbench.harness.cli import gate as cli_gate
from retainbench.harness.cli import measure as cli_measure
from retainbench.harness.cli import own as cli_own
from retainbench.harness.cli import streams
from retainbench.harness.cli import suite as cli_suite
from retainbench.harness.cli import tasks as cli_tasks
from retainbench.harness.core import extras
from retainbench.harness.core.errors import RetainbenchError, UsageError
from retainbench.harness.core.process import quieten
from retainbench.harness.core.text.escaping import terminal, visible

MISTAKE, BUG, INTERRUPTED = 2, 70, 130  # 70 is EX_SOFTWARE of sysexits.h
# What the machine refuses, whatever our code does; any other OSError is a bug and shows its place.
REFUSED = {
    getattr(errno, name)
    for name in (
        *("EACCES", "EPERM", "EROFS", "ENOSPC", "EDQUOT", "EFBIG", "EIO"),
        *("ENOTDIR", "EISDIR", "ENAMETOOLONG", "ELOOP", "EMFILE", "ENFILE"),
    )
}

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
bases_app = typer.Typer(help="Base models that can be used by name.")

PANELS: dict[str, tuple[Callable[..., None], ...]] = {
    "Train and compare": (
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
    "Your own": (cli_own.check,),
    "Measure": (cli_measure.evaluate, cli_measure.drift, cli_measure.sensitivity),
    "What there is": (
        cli_tasks.tasks,
        cli_tasks.freeze,
        cli_tasks.schema,
        cli_suite.suites,
        cli_suite.methods,
    ),
}
for panel, verbs in PANELS.items():
    for verb in verbs:
        app.command(rich_help_panel=panel)(verb)
bases_app.command("list")(cli_suite.list_bases)
bases_app.command("fetch")(cli_suite.fetch)
app.add_typer(cli_own.new_app, name="new", rich_help_panel="Your own")
app.add_typer(bases_app, name="bases", rich_help_panel="What there is")


@app.callback(invoke_without_command=True)
def _retainbench(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    """Retention and forgetting benchmark for LLM post-training."""
    if version:
        sys.stdout.write(f"retainbench {importlib.metadata.version('retainbench')}\n")
        raise typer.Exit
    if context.invoked_subcommand is None:
        sys.stdout.write(f"{context.get_help()}\n")
        raise typer.Exit(MISTAKE)  # 0 would read as PASS in a script whose verb came out empty


def main() -> None:
    """Entry point of the installed script.

    Quiet before any verb imports its libraries: they read once whether they may draw bars.
    """
    quieten()
    with streams.prepared():
        code = run(sys.argv[1:])
    sys.exit(code)


def run(arguments: Sequence[str]) -> int:
    """Run one command line; returns the exit code.

    A mistake that the parser, a verb or the machine finds is one line on standard error. Only a bug
    shows a traceback.
    """
    try:
        _require_working_folder()
        code = app(list(arguments), prog_name="retainbench", standalone_mode=False)
        sys.stdout.flush()
    except RetainbenchError as error:
        return _refuse(str(error), error.exit_code)
    except typer.TyperException as error:
        return _refuse(_parser_line(error), MISTAKE)
    except (typer.Abort, KeyboardInterrupt):
        return _refuse("interrupted", INTERRUPTED)
    except Exception as error:  # noqa: BLE001 - the last resort: a crash must not exit 1
        if isinstance(error, ModuleNotFoundError) and (refusal := extras.not_installed(error)):
            return _refuse(str(refusal), MISTAKE)
        if isinstance(error, OSError) and error.errno in REFUSED:
            return _refuse(_machine_line(error), MISTAKE)
        sys.stderr.write(visible(traceback.format_exc()))
        return _refuse("this is a bug of retainbench; please report the lines above", BUG)
    return int(code or 0)


def _require_working_folder() -> None:
    """Libraries end the process where the folder that it was started in was removed."""
    try:
        Path.cwd()
    except OSError as error:
        raise UsageError(f"the working folder cannot be used: {error.strerror}") from error


def _refuse(message: str, code: int) -> int:
    sys.stderr.write(f"retainbench: {terminal(message)}\n")
    sys.stderr.flush()
    return code


def _parser_line(error: typer.TyperException) -> str:
    """The parser's message on one line, with the command that explains the verb."""
    message = " ".join(error.format_message().replace("Value error, ", "").split())
    context = getattr(error, "ctx", None)
    command = getattr(context, "command_path", "retainbench")
    return f"{message.rstrip('.')}. See `{command} --help`."


def _machine_line(error: OSError) -> str:
    place = f"{error.filename}: " if error.filename else ""
    return f"{place}{error.strerror}"
