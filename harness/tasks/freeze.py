"""Freeze items to a pack: a folder that runs offline and never changes.

Takes a `Frozen` task, from a plain JSONL (`from_jsonl`, below) or from lm-eval
(tasks/from_lm_eval.py), and writes OUT/NAME/ as tasks/pack.py describes it: YAML, items, lock,
provenance and copies of the files that lm-eval needs with it. The same items give the same bytes
and the same lock; only provenance.json differs: it records when and how.

Command: `retainbench freeze TASK... --out DIR`, `... freeze --jsonl FILE --name N --out DIR`
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import yaml

from retainbench.harness.core import paths
from retainbench.harness.core.axes import RetentionAxis
from retainbench.harness.core.errors import UsageError
from retainbench.harness.core.files.atomic import replacing
from retainbench.harness.core.files.storage import sha256_file, write_json, write_text
from retainbench.harness.core.records import Record
from retainbench.harness.tasks import catalogue, pack
from retainbench.harness.tasks.folder import PREFIX
from retainbench.harness.tasks.items import read_rows

QUESTION = "Question: {{query}}\nAnswer:"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
FIELDS = ("id", "query", "choices", "gold", "continuation", "answer", "aliases", "cluster")
"""Fields of an item, in the order in which they are written."""


class LeftOut(Record):
    """An item of the source that is not in the pack."""

    id: str
    reason: str


class Provenance(Record):
    """`provenance.json`: where the items come from. No score depends on it."""

    source: Literal["lm-eval", "jsonl", "hub"]
    name: str
    """The lm-eval task, or the file's name."""
    source_sha256: str | None = None
    """Of the JSONL file."""
    dataset_path: str | None = None
    dataset_name: str | None = None
    dataset_revision: str | None = None
    """Commit of the dataset's repository, where its files name it."""
    dataset_split: str | None = None
    licence: str
    context: str
    """Text before the question: none, or which shots and how they were drawn."""
    items: int
    left_out: list[LeftOut] = []
    left_out_of_scoring: list[str] = []
    """Metrics and filters of the source that the pack does not compute; fields of the JSONL."""
    versions: dict[str, str]
    command: list[str]


@dataclass(frozen=True)
class Frozen:
    """A task that is ready to be written."""

    name: str
    keys: dict[str, Any]
    """Keys of NAME.yaml except task and dataset_kwargs."""
    rows: list[dict[str, Any]]
    provenance: Provenance


def from_jsonl(
    file: Path,
    name: str,
    axis: RetentionAxis,
    *,
    prompt: str | None = None,
    match: Literal["exact", "numeric"] = "exact",
    max_new_tokens: int = 16,
    licence: str = "not stated",
    command: Sequence[str] = (),
) -> Frozen:
    """A task of rows `{id, query, choices, gold}`, `{id, query, answer}` or `{id, text}`.

    Rows with a `text` are documents for perplexity. `aliases` and `cluster` may be added; other
    fields are left out.

    Args:
        prompt: text with `{{query}}`; default `Question: {{query}}` and `Answer:` on the next line,
            or nothing where every query is empty (minimal pairs).
        match: how answers are compared: as texts after normalisation (tasks/_dataset.py), or as
            numbers (tasks/_numeric.py).
        max_new_tokens: longest answer; it ends at the end of its line in any case.

    Raises:
        UsageError: the file does not exist, the prompt has no `{{query}}`, or a row is malformed;
            the message names file, line and item.
    """
    if not file.is_file():
        raise UsageError(f"--jsonl {file}: not a file. Write the path of a JSON Lines file")
    given = read_rows(file, _completed)
    pairs = not any(row["query"] for row in given)
    chosen = prompt if prompt is not None else ("{{query}}" if pairs else QUESTION)
    keys: dict[str, Any] = {
        "doc_to_text": "query" if chosen == "{{query}}" else chosen,
        "target_delimiter": "" if pairs else " ",
    }
    if pairs and "answer" in given[0]:
        if prompt is not None:
            raise UsageError("--prompt: documents are read without a prompt. Leave it out")
        keys = {"include": "_perplexity.yaml", "doc_to_text": ""}
    elif "choices" in given[0]:
        keys["include"] = "_multiple_choice.yaml"
    else:
        keys |= _free_form(given, file, match, max_new_tokens)
    kept = set(FIELDS) if "choices" not in given[0] else set(FIELDS) - {"answer", "aliases"}
    return Frozen(
        name=name,
        keys=keys | {"metadata": {"version": 1.0, "licence": licence, "axis": axis}},
        rows=[{key: row[key] for key in FIELDS if key in row and key in kept} for row in given],
        provenance=Provenance(
            source="jsonl",
            name=file.name,
            source_sha256=sha256_file(file),
            licence=licence,
            context="none",
            items=len(given),
            left_out_of_scoring=sorted({key for row in given for key in row} - kept),
            versions={"retainbench": version("retainbench")},
            command=list(command),
        ),
    )


def _completed(row: Any) -> Any:
    """A row with numbers as texts, its id as the cluster, and no aliases where it names none.

    A document is the answer to an empty query.
    """
    if not isinstance(row, dict):
        return row
    filled = dict(row) | {k: _spelled(row[k]) for k in ("id", "answer", "cluster") if k in row}
    if "text" in filled and not {"query", "choices", "answer"} & filled.keys():
        filled |= {"query": "", "answer": filled.pop("text")}
    if isinstance(row.get("aliases"), list):
        filled["aliases"] = [_spelled(alias) for alias in row["aliases"]]
    if filled.get("cluster") is None:
        filled["cluster"] = filled.get("id")
    if "choices" not in filled and filled.get("aliases") is None:
        filled["aliases"] = []
    return filled


def _spelled(value: Any) -> Any:
    """A number as text; anything else as it is."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return str(value) if number else value


def _free_form(
    rows: list[dict[str, Any]], file: Path, match: str, max_new_tokens: int
) -> dict[str, Any]:
    keys: dict[str, Any] = {
        "include": "_free_form.yaml",
        "doc_to_target": "answer",
        "generation_kwargs": {
            "until": ["\n"],
            "do_sample": False,
            "max_gen_toks": max_new_tokens,
        },
    }
    if match == "numeric":
        from retainbench.tasks._numeric import number

        for line, row in enumerate(rows, start=1):
            if any(number(text) is None for text in (row["answer"], *row["aliases"])):
                raise UsageError(
                    f"{file}:{line}: item {row['id']}: the answer is not a number. Write one, "
                    "or use --match exact"
                )
        keys["process_results"] = "!function _numeric.match"
    return keys


def write(frozen: Frozen, out: Path, *, overwrite: bool = False) -> catalogue.TaskInfo:
    """Write OUT/NAME/, checked as every pack is before it is used.

    Raises:
        UsageError: the name cannot name a folder, or a task has it already.
        IntegrityError: an item is not usable; nothing is written.
    """
    check_name(frozen.name)
    goal = out / frozen.name
    if goal.exists() and not overwrite:
        raise UsageError(f"{goal} exists already. Choose a different --out, or add --overwrite")
    with replacing(goal) as folder:
        fill(folder, frozen)
    return pack.read(goal)[0]


def check_name(name: str) -> None:
    """Refuse a name that a folder cannot have or that a task of the package has."""
    if not NAME.fullmatch(name):
        raise UsageError(f"{name!r} cannot name a task: use letters, digits, ._-")
    if name in catalogue.own():
        raise UsageError(f"{name} is a task of retainbench: choose another name")


def fill(folder: Path, frozen: Frozen) -> catalogue.TaskInfo:
    """Write a pack's files into an empty folder of its name, and check them."""
    _write_files(folder, frozen)
    info = pack.read(folder, code=True)[0]
    catalogue.write_lock(info)
    catalogue.verify_lock(info)
    return info


def _write_files(folder: Path, frozen: Frozen) -> None:
    keys = {"task": PREFIX + frozen.name, "dataset_kwargs": {"folder": "."}} | frozen.keys
    file = pack.validated(keys, Path(f"{frozen.name}.yaml"))
    plain = file.model_dump(mode="json", exclude_unset=True, by_alias=True)
    lines = (json.dumps(row, ensure_ascii=True) + "\n" for row in frozen.rows)
    write_text(folder / "items.jsonl", "".join(lines))
    write_text(folder / f"{frozen.name}.yaml", _yaml(plain))
    write_json(folder / "provenance.json", frozen.provenance)
    companions = [keys["include"], "_dataset.py"]
    used = ("_numeric", "_code", "_reward")
    companions += [f"{name}.py" for name in used if f"{name}." in str(keys.get("process_results"))]
    for name in companions:
        shutil.copyfile(paths.TASKS / name, folder / name)


def joined(name: str, source: str, parts: Sequence[Frozen], revision: str | None) -> Frozen:
    """The tasks of an lm-eval group as one pack, in their order.

    Raises:
        UsageError: their prompts or their scoring differ.
    """
    first = parts[0]
    for part in parts[1:]:
        if part.keys != first.keys:
            raise UsageError(
                f"{name}: {part.name} and {first.name} differ in scoring: freeze them separately"
            )
    alone = len(parts) == 1
    known = {
        "name": source,
        "dataset_name": first.provenance.dataset_name if alone else None,
        "dataset_revision": revision or first.provenance.dataset_revision,
        "items": sum(part.provenance.items for part in parts),
        "left_out": [entry for part in parts for entry in part.provenance.left_out],
    }
    return Frozen(
        name=name,
        keys=first.keys,
        rows=[row for part in parts for row in part.rows],
        provenance=first.provenance.model_copy(update=known),
    )


class _Dumper(yaml.SafeDumper):
    """SafeDumper that writes `!function NAME` as the tag that lm-eval reads."""


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    if value.startswith("!function "):
        return dumper.represent_scalar("!function", value.removeprefix("!function "))
    return dumper.represent_str(value)


_Dumper.add_representer(str, _text)


def _yaml(value: dict[str, Any]) -> str:
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=False, width=100)
