"""A target from a user's own rows: a folder that a suite names (`targets: [./tickets]`).

Writes NAME/ as tasks/pack.py describes it: test, validation and training items, a reward (one of
ours with its settings, or the user's reward.py), the YAML that lm-eval reads, and a lock.

Command: `retainbench new target NAME --train FILE [--test FILE] --reward NAME`
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from retainbench.harness.contracts.rows import Row, Splits
from retainbench.harness.contracts.target import best_constant
from retainbench.harness.core import paths
from retainbench.harness.core.errors import RetainbenchError, UsageError
from retainbench.harness.core.files import locks
from retainbench.harness.core.files.atomic import replacing
from retainbench.harness.core.files.storage import write_text
from retainbench.harness.tasks import catalogue, freeze, pack
from retainbench.harness.tasks.freeze import QUESTION, Frozen, Provenance
from retainbench.harness.tasks.rendering.answers import FIRST_LINE, AnswerRule, judging
from retainbench.harness.tasks.rendering.prompts import reference

REWARDS = ("exact", "numeric", "choice", "contains", "regex", "json", "math")
LONGEST_ANSWER = 1_024  # tokens that are generated at most where nobody asks for another number
MOST_OPTIONS = 50


@dataclass(frozen=True)
class TargetSpec:
    """What the user decides."""

    name: str
    reward: str
    """A name of REWARDS, or the path of a reward.py."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """tolerance, relative, pattern, fields, schema, options."""
    prompt: str = QUESTION
    answer: AnswerRule = FIRST_LINE
    """Where the answer is; anything but the first line lets a response have many lines."""
    max_new_tokens: int | None = None
    licence: str = "not stated"
    provenance: Mapping[str, Any] = field(default_factory=dict)
    """source, name, source_sha256 or dataset_path, dataset_revision."""
    command: Sequence[str] = ()


def write(
    wish: TargetSpec, splits: Splits, out: Path, *, overwrite: bool = False
) -> catalogue.TaskInfo:
    """Write OUT/NAME/, checked as every pack is before it is used.

    Raises:
        UsageError: the name is taken, a reward or a setting is unknown, or a row is not usable.
    """
    freeze.check_name(wish.name)
    goal = out / wish.name
    if goal.exists() and not overwrite:
        raise UsageError(f"{goal} exists already: choose another --out, or add --overwrite")
    _require_even(splits)
    try:
        with locks.growing(out, create=True), replacing(goal) as folder:
            _write_reward(folder, wish, splits)
            for name in ("validation", "train"):
                _write_rows(folder / f"{name}.jsonl", getattr(splits, name))
            freeze.fill(folder, _frozen(wish, splits, _chance(folder, splits, wish.answer)))
    except UsageError:
        raise
    except RetainbenchError as error:
        raise UsageError(str(error)) from error
    return pack.read(goal, code=True)[0]


def _chance(folder: Path, splits: Splits, rule: AnswerRule) -> float:
    """What the best constant answer earns on the training items: a guesser's score."""
    shutil.copyfile(paths.TASKS / "_reward.py", folder / "_reward.py")
    reward = judging(pack.companion(folder, "_reward").reward, rule)
    return round(best_constant(splits.train[:300], reward)[1], 4)


def _frozen(wish: TargetSpec, splits: Splits, chance: float) -> Frozen:
    """The test items with the keys of the YAML."""
    longest = max(len(reference(row)) for part in splits[:3] for row in part)
    tokens = wish.max_new_tokens or min(max(16, -(-longest // 16) * 16), LONGEST_ANSWER)
    metrics = [
        {"metric": name, "aggregation": "mean", "higher_is_better": True}
        for name in ("reward", "valid")
    ]
    metadata = {"version": 1.0, "licence": wish.licence, "axis": "target", "chance": chance}
    if wish.answer != FIRST_LINE:
        rule = wish.answer.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        metadata |= {"think": rule.pop("think", "keep"), "answer": rule}
    until = ["\n"] if wish.answer.source == "first_line" else []
    keys = {
        "include": "_free_form.yaml",
        "doc_to_text": "query" if wish.prompt == "{{query}}" else wish.prompt,
        "doc_to_target": "answer",
        "process_results": pack.SCORE,
        "generation_kwargs": {"until": until, "do_sample": False, "max_gen_toks": tokens},
        "metric_list": metrics,
        "metadata": metadata,
    }
    provenance = Provenance(
        **dict(wish.provenance),
        licence=wish.licence,
        context="none",
        items=len(splits.test),
        versions={"retainbench": version("retainbench")},
        command=list(wish.command),
    )
    return Frozen(wish.name, keys, splits.test, provenance)


def _require_even(splits: Splits) -> None:
    """Refuse test items of different fields, which lm-eval's tables cannot hold.

    Raises:
        UsageError: naming an item and the field.
    """
    first = splits.test[0]
    for row in splits.test:
        if row.keys() != first.keys():
            name = sorted(row.keys() ^ first.keys())[0]
            raise UsageError(f"item {row['id']}: {name} must be in every row or in none")
    from datasets import Dataset

    if Dataset.from_list(splits.test).to_list() != splits.test:
        raise UsageError("nested fields must have the same keys in every row. Store them as text")


def _write_reward(folder: Path, wish: TargetSpec, splits: Splits) -> None:
    if wish.reward in REWARDS:
        settings = {"kind": wish.reward} | dict(wish.settings)
        if wish.reward == "choice" and "options" not in settings:
            settings["options"] = _options(splits)
        if wish.reward == "regex" and "pattern" not in settings:
            raise UsageError(
                "--reward regex needs --setting pattern=..., with the answer in its first group"
            )
        write_text(folder / "reward.json", json.dumps(settings, indent=1, sort_keys=True) + "\n")
        return
    path = Path(wish.reward)
    if path.suffix != ".py" or not path.is_file():
        raise UsageError(
            f"--reward {wish.reward}: choose one of {', '.join(REWARDS)}, or give a file reward.py"
        )
    shutil.copyfile(path, folder / "reward.py")


def _options(splits: Splits) -> list[str]:
    found = sorted({row["answer"] for part in splits[:3] for row in part})
    if len(found) > MOST_OPTIONS:
        raise UsageError(f"--reward choice: the rows have {len(found)} different answers")
    return found


def _write_rows(path: Path, rows: Sequence[Row]) -> None:
    lines = (json.dumps(row, ensure_ascii=True) + "\n" for row in rows)
    write_text(path, "".join(lines))
