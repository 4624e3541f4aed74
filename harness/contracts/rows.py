"""A user's rows -> test, validation and training items of a target. Writes nothing.

Rows are `{id, query, answer}` or `{id, messages, answer}`, with `cluster` and `aliases` if known;
other fields stay, for the reward. A `solution` is what SFT trains on; where the rows have no answer
of their own, it is found in the solution as in a response. Equal questions are kept once. One set
of rows is split by cluster, in the order of the clusters' hashes, so that what belongs together
stays together and more rows later move no item from one split to another more than they must.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from retainbench.harness.core.errors import UsageError
from retainbench.harness.core.files.storage import sha256_file
from retainbench.harness.core.text.formatting import counted
from retainbench.harness.tasks.catalogue import OWN, own
from retainbench.harness.tasks.contamination import OverlapSearch, by_task, retention_items
from retainbench.harness.tasks.items import read_rows
from retainbench.harness.tasks.lm_eval_index import COMMIT, card
from retainbench.harness.tasks.rendering.answers import FIRST_LINE, AnswerRule, extract
from retainbench.harness.tasks.rendering.prompts import reference
from retainbench.tasks._dataset import normalised

Row = dict[str, Any]
FEWEST = 10
"""Rows of which three splits can be made."""
TEST, VALIDATION = 0.2, 0.1
"""Shares of the rows, at least, that become test and validation items."""


class Splits(NamedTuple):
    """Items of a target, and what a person should know of them."""

    test: list[Row]
    validation: list[Row]
    train: list[Row]
    remarks: list[str]


class RowReading(NamedTuple):
    """How rows are read."""

    fields: Mapping[str, str] = {}
    """Our name of a field -> the rows'."""
    rule: AnswerRule = FIRST_LINE
    """Where the answer is in a solution."""


AS_THEY_ARE = RowReading({})
OURS = ("id", "query", "messages", "answer", "solution", "aliases", "cluster")


def from_file(path: Path, reading: RowReading) -> list[Row]:
    """Rows of a JSON Lines file.

    Raises:
        UsageError: naming file, line and item.
    """
    if not path.is_file():
        raise UsageError(f"not a file: {path}. Give JSON Lines with id, query and answer")
    return read_rows(path, lambda row: completed(row, reading))


def completed(row: Any, reading: RowReading = AS_THEY_ARE) -> Any:
    """A row with our names, its question as text, and what it may leave out filled in.

    One of our fields that is null counts as left out: exports of tables write them so.
    """
    if not isinstance(row, dict):
        return row
    fields = reading.fields
    named = dict(row) | {name: row[other] for name, other in fields.items() if other in row}
    named = {name: v for name, v in named.items() if v is not None or name not in OURS}
    turns = named.get("messages")
    if "answer" not in named and isinstance(turns, list) and _last_role(turns) == "assistant":
        named["messages"], named["answer"] = turns[:-1], turns[-1].get("content")
    own_answer = "answer" in named and fields.get("solution") != "answer"
    if "solution" in fields and "answer" not in fields and not own_answer:
        named["answer"] = extract(reading.rule, str(named.get("solution", ""))).strip()
    if "query" not in named and isinstance(named.get("messages"), list):
        named["query"] = _conversation(named["messages"])
    if "id" not in named and isinstance(named.get("query"), str):
        named["id"] = hashlib.sha256(named["query"].encode()).hexdigest()[:12]
    if isinstance(named.get("id"), int):
        named["id"] = str(named["id"])
    answer = named.get("answer")
    if isinstance(answer, dict | list):
        named["answer"] = json.dumps(answer, ensure_ascii=False)
    elif isinstance(answer, int | float):
        named["answer"] = str(answer)
    head = {"id": named.pop("id", None), "query": named.pop("query", None)}
    head |= {"answer": named.pop("answer", None), "aliases": named.pop("aliases", [])}
    return head | {"cluster": str(named.pop("cluster", head["id"]))} | named


def _last_role(messages: list[Any]) -> Any:
    return messages[-1].get("role") if messages and isinstance(messages[-1], dict) else None


def _conversation(messages: list[Any]) -> str:
    """One user message as it is; a longer conversation with its roles, a line each."""
    texts = [(str(m.get("role")), str(m.get("content"))) for m in messages if isinstance(m, dict)]
    if len(texts) == 1:
        return texts[0][1]
    return "\n".join(f"{role.capitalize()}: {text}" for role, text in texts)


def split(rows: Sequence[Row], test: Sequence[Row] | None = None) -> Splits:
    """Splits of which no two share a question; what was found on the way, as remarks.

    Args:
        test: the test items, where there is a file of them; else they are taken from the rows.

    Raises:
        UsageError: there are too few rows.
    """
    remarks: list[str] = []
    if test is not None:
        kept_test = _once(test, set(), "--test", remarks)
        kept = _once(rows, {normalised(row["query"]) for row in kept_test}, "--train", remarks)
        shared = {row["cluster"] for row in kept} & {row["cluster"] for row in kept_test}
        if shared:
            remarks.append(f"{counted(len(shared), 'cluster')} in --train and in --test")
        validation, train = _taken(kept, VALIDATION)
    else:
        kept = _once(rows, set(), "--train", remarks)
        kept_test, others = _taken(kept, TEST)
        validation, train = _taken(others, VALIDATION / (1 - TEST))
    if len(kept) < FEWEST or not (kept_test and validation and train):
        raise UsageError(
            f"{counted(len(kept), 'different row')}: too few for three splits. Give at least "
            f"{FEWEST}, of several clusters"
        )
    return Splits(kept_test, validation, train, [*remarks, *given_away(train, kept_test)])


def _once(rows: Sequence[Row], seen: set[str], name: str, remarks: list[str]) -> list[Row]:
    """Rows whose question was not seen before; how many were."""
    kept = []
    for row in rows:
        text = normalised(row["query"])
        if text not in seen:
            seen.add(text)
            kept.append(row)
    if len(kept) < len(rows):
        doubled = counted(len(rows) - len(kept), "row")
        remarks.append(f"{doubled} of {name} left out: the same question is there already")
    return kept


def _taken(rows: Sequence[Row], share: float) -> tuple[list[Row], list[Row]]:
    """Whole clusters that make up at least a share of the rows, and the others, in file order."""
    sizes: dict[str, int] = {}
    for row in rows:
        sizes[row["cluster"]] = sizes.get(row["cluster"], 0) + 1
    wanted, chosen = share * len(rows), set[str]()
    for name in sorted(sizes, key=lambda name: hashlib.sha256(name.encode()).digest()):
        if wanted <= 0:
            break
        chosen.add(name)
        wanted -= sizes[name]
    taken = [row for row in rows if row["cluster"] in chosen]
    return taken, [row for row in rows if row["cluster"] not in chosen]


def given_away(train: Sequence[Row], test: Sequence[Row]) -> list[str]:
    """Test items and items of the package's own tasks that the training items give away."""
    asked = {("test", row["id"]): f"{row['query']} {row['answer']}" for row in test}
    retention = [name for name, info in own().items() if info.kind != "target"]
    search = OverlapSearch(asked | retention_items(retention, OWN))
    search.read([row["query"], reference(row)] for row in train)
    return [
        f"{counted(len(ids), 'test item')} almost word for word in the training items: {ids[0]}"
        if name == "test"
        else f"{counted(len(ids), 'item')} of the retention task {name} in the training items"
        for name, ids in by_task(search.found()).items()
    ]


def provenance(path: Path) -> dict[str, Any]:
    """Where the rows of a file come from."""
    return {"source": "jsonl", "name": path.name, "source_sha256": sha256_file(path)}


class HubSplit(NamedTuple):
    """One split of a data set on the hub."""

    dataset: str
    revision: str | None
    """A commit."""
    config: str | None = None
    """Which of the data set's configurations; None = its only one."""
    split: str = "train"


def from_hub(hub: HubSplit, reading: RowReading) -> tuple[list[Row], dict[str, Any]]:
    """Rows of a data set on the Hugging Face hub at one commit, and where they come from.

    Raises:
        UsageError: the revision is not a commit, or the hub or the data set has no such rows.
    """
    dataset, revision, split = hub.dataset, hub.revision, hub.split
    if revision is None or not COMMIT.fullmatch(revision):
        raise UsageError(f"--hub {dataset}: give its commit with --revision, 40 hexadecimal digits")
    from datasets import load_dataset

    commit = card(dataset, revision).commit
    try:
        loaded = load_dataset(dataset, hub.config, split=split, revision=commit)
    except Exception as error:
        what = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise UsageError(f"--hub {dataset}: cannot be loaded: {what}") from error
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / f"{split}.jsonl"
        loaded.to_json(path)
        rows = from_file(path, reading)
    where = {"dataset_path": dataset, "dataset_revision": commit, "dataset_split": split}
    return rows, {"source": "hub", "name": dataset} | where
