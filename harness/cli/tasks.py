"""The verbs around frozen tasks and records: tasks lists, freeze makes packs, schema describes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from retainbench.harness.cli import screen
from retainbench.harness.cli.options import (
    AllowCode,
    Overwrite,
    Packs,
    out_folder,
    refuse_unused,
    retention_axis,
)
from retainbench.harness.core import axes
from retainbench.harness.core.errors import UsageError
from retainbench.harness.core.process import quieten

FOR_ROWS = ("prompt", "match", "max_new_tokens")
FOR_LM_EVAL = ("filter", "cluster", "num_fewshot")
HEAD = ("axis", "task", "from", "kind", "items", "chance", "version", "licence", "base scores")


def tasks(pack: Packs = None, allow_code: AllowCode = False) -> None:
    """List retention tasks and targets with axis, items, chance, version, licence, base scores."""
    from retainbench.harness.core.text import terminal
    from retainbench.harness.core.text.escaping import terminal as printable
    from retainbench.harness.tasks import catalogue
    from retainbench.harness.tasks import folder as tasks_card

    rows = []
    known = catalogue.Catalogue.of(pack or (), allow_code=allow_code)
    for info in known.tasks.values():
        locked = catalogue.lock(info).items
        chance = sum(item.chance for item in locked) / len(locked)
        kind = "contexts" if info.contexts else info.kind
        scores = tasks_card.base_scores(info).items()
        rows.append(
            (
                info.axis,
                info.name,
                printable(known.origin(info.name), 80),
                kind,
                str(info.n_items),
                f"{chance:.3f}",
                printable(info.version, 20),
                printable(info.licence, 80),
                ", ".join(f"{printable(name, 40)} {score:.2f}" for name, score in scores),
            )
        )
    screen.show(terminal.table(HEAD, rows, "llllrrlll"))
    for line in catalogue.installed().broken:
        screen.line(line)


def freeze(
    context: typer.Context,
    out: Annotated[
        Path,
        typer.Option(callback=out_folder, help="Folder of the pack; one folder per task in it."),
    ],
    tasks: Annotated[
        list[str] | None, typer.Argument(help="lm-eval tasks, groups or tags; or give --jsonl.")
    ] = None,
    jsonl: Annotated[
        Path | None,
        typer.Option(help="Rows {id, query, choices, gold}, {id, query, answer} or {id, text}."),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the task made of --jsonl.")] = None,
    axis: Annotated[
        str, typer.Option(callback=retention_axis, help=f"Axis of the tasks: {axes.HELP}.")
    ] = "general",
    prompt: Annotated[
        str | None,
        typer.Option(help="For --jsonl: text around {{query}}; default a question and `Answer:`."),
    ] = None,
    match: Annotated[
        Literal["exact", "numeric"], typer.Option(help="For --jsonl: how answers are compared.")
    ] = "exact",
    max_new_tokens: Annotated[
        int, typer.Option(min=1, help="For --jsonl: longest answer, in tokens.")
    ] = 16,
    licence: Annotated[str | None, typer.Option(help="Licence of the items.")] = None,
    include_path: Annotated[
        Path | None, typer.Option(help="Look for lm-eval tasks here instead of in lm-eval.")
    ] = None,
    filter: Annotated[
        str | None, typer.Option(help="lm-eval filter that decides; default the first.")
    ] = None,
    cluster: Annotated[
        str | None, typer.Option(help="Field of lm-eval's documents that names shared passages.")
    ] = None,
    num_fewshot: Annotated[
        int | None, typer.Option(min=0, help="Shots of lm-eval tasks; default the task's own.")
    ] = None,
    suite: Annotated[
        str | None, typer.Option(help="Freeze every source of a suite, at the revisions it pins.")
    ] = None,
    allow_code: AllowCode = False,
    overwrite: Overwrite = False,
) -> None:
    """Snapshot evaluation items to a pack that runs offline; use it with --pack.

    A pack holds the items: share it under their licence only. --suite also writes a lock next to
    the packs. It holds no items; a machine that has the lock freezes the same packs or fails.
    """
    from retainbench.harness.core.files import locks
    from retainbench.harness.tasks import freeze as freezing
    from retainbench.harness.tasks import from_lm_eval, lm_eval_index

    quieten()
    command = ["retainbench", *sys.argv[1:]]
    given = [bool(tasks), jsonl is not None, suite is not None]
    if sum(given) != 1 or (jsonl is not None) != (name is not None):
        raise UsageError("give lm-eval tasks, or --jsonl FILE with --name NAME, or --suite NAME")
    if jsonl is not None:
        refuse_unused(context, "--jsonl", *FOR_LM_EVAL, "include_path", "allow_code")
    elif suite is not None:
        refuse_unused(context, "--suite", *FOR_ROWS, *FOR_LM_EVAL, "axis", "licence")
    else:
        refuse_unused(context, "tasks of lm-eval", *FOR_ROWS)
    with locks.growing(out, create=True):
        if suite is not None:
            _freeze_suite(suite, out, include_path, overwrite, command, allow_code)
        if jsonl is not None and name is not None:
            made = freezing.from_jsonl(
                jsonl,
                name,
                axis,
                prompt=prompt.replace("\\n", "\n") if prompt is not None else None,
                match=match,
                max_new_tokens=max_new_tokens,
                licence=licence or "not stated",
                command=command,
            )
            _say(made, freezing.write(made, out, overwrite=overwrite).folder)
        choices = from_lm_eval.FreezeChoices(
            axis, filter, licence, cluster, num_fewshot, allow_code
        )
        for found, task in lm_eval_index.load(tasks, include_path) if tasks else ():
            made = from_lm_eval.frozen(found, task, choices, command)
            _say(made, freezing.write(made, out, overwrite=overwrite).folder)


def _freeze_suite(
    name: str,
    out: Path,
    include: Path | None,
    overwrite: bool,
    command: list[str],
    allow_code: bool,
) -> None:
    from retainbench.harness.suites import freeze as freeze_suite
    from retainbench.harness.suites import loading

    order = freeze_suite.FreezeRequest(
        loading.read(name), out, include, overwrite, command, allow_code
    )
    failed = []
    for outcome in freeze_suite.run(order):
        screen.line(f"{outcome.name}: {outcome.line}")
        failed += [outcome.name] if outcome.frozen is None else []
    if failed:
        raise UsageError(
            f"{len(failed)} of {len(order.suite.sources)} tasks could not be frozen "
            f"({', '.join(failed)}). Correct what is reported above and run the command again; the "
            "others are kept"
        )


def _say(made: object, folder: Path) -> None:
    from retainbench.harness.tasks.freeze import Frozen

    assert isinstance(made, Frozen)
    source = made.provenance
    screen.line(f"{folder}: {source.items} items, context {source.context}")
    if source.left_out:
        screen.line(f"  left out: {len(source.left_out)} items ({source.left_out[0].reason})")
    if source.left_out_of_scoring:
        screen.line(f"  not scored: {', '.join(source.left_out_of_scoring)}")


def schema(
    name: Annotated[
        str | None, typer.Argument(help="A record; without it, all are listed.")
    ] = None,
) -> None:
    """Print the JSON Schema of a record, such as records, scorecard or gate."""
    import json

    from retainbench.harness.api import schemas

    if name is None:
        for known in schemas.RECORDS:
            screen.line(known)
    else:
        screen.data(json.dumps(schemas.schema(name), indent=1))
