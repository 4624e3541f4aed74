"""The verbs around what a user brings: new writes it, check runs its contract."""

from __future__ import annotations

import json
import re
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from retainbench.harness.cli import screen
from retainbench.harness.cli.options import Overwrite, out_folder, refuse_unused, retention_axis
from retainbench.harness.core import axes
from retainbench.harness.core.errors import RetainbenchError, UsageError

Out = Annotated[Path, typer.Option(callback=out_folder, help="Folder to write to.")]
HERE = Path()
PAIR = re.compile(r"([a-z_]+)=(.+)")

FOR_HUB = ("revision", "config", "split", "test_split")
FOR_ROWS = ("field", "setting", "prompt", "answer", "think", "max_new_tokens", "licence")

new_app = typer.Typer(help="Write a method, target, task or suite of your own that runs at once.")


@new_app.command()
def method(name: str, out: Out = HERE) -> None:
    """Write NAME.py: SFT with a loss of your own, for `method: ./NAME.py` in a suite."""
    from retainbench.harness.contracts import skeletons

    _say(skeletons.method(name, out))


@new_app.command()
def suite(
    name: str,
    target: Annotated[list[str] | None, typer.Option(help="Name or ./folder. Repeat.")] = None,
    task: Annotated[list[str] | None, typer.Option(help="Name, axis or ./folder. Repeat.")] = None,
    method: Annotated[list[str] | None, typer.Option(help="Name or ./file.py. Repeat.")] = None,
    out: Out = HERE,
) -> None:
    """Write NAME.yaml: a small comparison that runs in minutes."""
    from retainbench.harness.contracts import skeletons

    _say(skeletons.suite(name, out, target or (), task or (), method or ()))


@new_app.command()
def task(
    name: str,
    axis: Annotated[
        str, typer.Option(callback=retention_axis, help=f"What it is about: {axes.HELP}.")
    ] = "general",
    out: Out = HERE,
) -> None:
    """Write NAME.jsonl with sample rows, and NAME/, the retention task frozen from them.

    Put your own rows into NAME.jsonl and freeze them with `retainbench freeze --jsonl NAME.jsonl
    --name NAME --axis AXIS --out . --overwrite`.
    """
    from retainbench.harness.contracts import skeletons

    folder = skeletons.task(name, out, axis).folder
    _say(folder)
    rows = out / f"{name}.jsonl"
    frozen = ["retainbench", "freeze", "--jsonl", str(rows), "--name", name, "--axis", axis]
    again = shlex.join([*frozen, "--out", str(out), "--overwrite"])
    screen.line(f"Its rows are samples. Put your own into {rows}, then run `{again}`.")


@new_app.command()
def target(
    context: typer.Context,
    name: str,
    train: Annotated[
        Path | None, typer.Option(help="Rows {id, query or messages, answer, ...}; JSON Lines.")
    ] = None,
    test: Annotated[
        Path | None, typer.Option(help="Test rows; default a fifth of --train, by cluster.")
    ] = None,
    hub: Annotated[
        str | None, typer.Option(help="Rows of a data set on the hub: ORG/NAME, with --revision.")
    ] = None,
    revision: Annotated[str | None, typer.Option(help="Commit of the data set, 40 digits.")] = None,
    config: Annotated[
        str | None, typer.Option(help="Configuration of the data set, if it has several.")
    ] = None,
    split: Annotated[str, typer.Option(help="Split of the data set.")] = "train",
    test_split: Annotated[
        str | None, typer.Option(help="Split with the test rows; default a fifth of --split.")
    ] = None,
    field: Annotated[
        list[str] | None,
        typer.Option(
            help="Our name of a field and the rows': query=question. solution=FIELD is what SFT "
            "trains on; the answer is then found in it by --answer. Repeat."
        ),
    ] = None,
    reward: Annotated[
        str | None,
        typer.Option(help="exact, numeric, choice, contains, regex, json, math, or a reward.py."),
    ] = None,
    setting: Annotated[
        list[str] | None,
        typer.Option(
            help="Of the reward, as JSON: tolerance=0.01, relative=0.05, pattern=..., fields=[...],"
            " schema={...}, options=[...]. Repeat."
        ),
    ] = None,
    prompt: Annotated[
        str | None, typer.Option(help="Text around {{query}}; default a question and `Answer:`.")
    ] = None,
    answer: Annotated[
        str,
        typer.Option(
            help="Where the answer is in a response: first_line, or in many lines all, last_line, "
            "boxed, tag:NAME, regex:PATTERN."
        ),
    ] = "first_line",
    think: Annotated[
        Literal["strip", "keep"], typer.Option(help="strip: the answer comes after </think>.")
    ] = "keep",
    max_new_tokens: Annotated[
        int | None,
        typer.Option(min=1, help="Longest answer, in tokens; default by the longest in the rows."),
    ] = None,
    licence: Annotated[str, typer.Option(help="Licence of the rows.")] = "not stated",
    out: Out = HERE,
    overwrite: Overwrite = False,
) -> None:
    """Write NAME/: a target made of your rows, for `targets: [./NAME]` in a suite.

    Without rows it holds made-up ones and a reward.py to change. One file is split by cluster;
    equal questions, and test or retention items that the training rows give away, are reported.
    """
    from retainbench.harness.contracts import new_target, rows, skeletons
    from retainbench.harness.tasks.freeze import QUESTION
    from retainbench.harness.tasks.rendering.answers import rule_of

    if train is None and hub is None:
        if reward is not None or test is not None:
            raise UsageError("give the rows with --train FILE or --hub ORG/NAME")
        refuse_unused(context, "made-up rows", *FOR_HUB, *FOR_ROWS, "overwrite")
        _say(skeletons.target(name, out).folder)
        return
    if (train is not None) == (hub is not None) or reward is None:
        raise UsageError("give --train FILE or --hub ORG/NAME, and --reward")
    if hub is None:
        refuse_unused(context, "--train", *FOR_HUB)
    elif test_split is not None:
        refuse_unused(context, "--test-split", "test")
    rule = rule_of(answer, think)
    reading = rows.RowReading(dict(_pair("--field", text) for text in field or ()), rule)
    asked = rows.from_file(test, reading) if test else None
    if hub is not None:
        source = rows.HubSplit(hub, revision, config, split)
        found, provenance = rows.from_hub(source, reading)
        if test_split:
            asked, _ = rows.from_hub(source._replace(split=test_split), reading)
    else:
        assert train is not None
        found, provenance = rows.from_file(train, reading), rows.provenance(train)
    splits = rows.split(found, asked)
    wish = new_target.TargetSpec(
        name=name,
        reward=reward,
        settings={key: _value(text) for key, text in map(_setting, setting or ())},
        prompt=QUESTION if prompt is None else prompt.replace("\\n", "\n"),
        answer=rule,
        max_new_tokens=max_new_tokens,
        licence=licence,
        provenance=provenance,
        command=["retainbench", *sys.argv[1:]],
    )
    info = new_target.write(wish, splits, out, overwrite=overwrite)
    sizes = (len(splits.test), len(splits.validation), len(splits.train))
    screen.line(f"{info.folder}: {sizes[0]} test, {sizes[1]} validation, {sizes[2]} training items")
    for remark in splits.remarks:
        screen.line(f"  {remark}")


def _pair(option: str, text: str) -> tuple[str, str]:
    found = PAIR.fullmatch(text)
    if not found:
        raise UsageError(f"{option} {text}: write NAME=VALUE")
    return found.group(1), found.group(2)


def _setting(text: str) -> tuple[str, str]:
    return _pair("--setting", text)


def _value(text: str) -> Any:
    """A setting as JSON, or the text itself where it is none."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def check(
    context: typer.Context,
    path: Annotated[
        Path, typer.Argument(help="A method's .py, a suite's .yaml, a target's or task's folder.")
    ],
    freeze: Annotated[
        bool, typer.Option("--freeze", help="Write a new lock of a target or task first.")
    ] = False,
) -> None:
    """Run the contract of a method, target, task or suite: a line per rule, exit 4 if one fails."""
    from retainbench.harness.contracts import check as checking

    if path.is_file():
        refuse_unused(context, "a method or a suite", "freeze")
    failed = []
    for rule in checking.check(path, freeze=freeze):
        screen.line(f"{'pass' if rule.passed else 'FAIL'}  {rule.name}")
        if not rule.passed:
            screen.line(f"      {rule.why}")
            failed.append(rule.name)
    if failed:
        raise RetainbenchError(f"{path}: {len(failed)} rules failed: {', '.join(failed)}")


def _say(path: Path) -> None:
    check_it = shlex.join(["retainbench", "check", str(path)])
    screen.line(f"Wrote {path}. Check it with `{check_it}`.")
