"""What every task YAML calls: loading of its own items.jsonl, and the exact-answer metric.

Reads the JSONL beside the YAML that names it, wherever lm-eval is started. Needs nothing of
retainbench, so that `lm_eval --include_path tasks --tasks rb_capitals` works without it; hence no
import of the package here. Strict: a row that lacks a field, or has another, ends the run.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import datasets

HERE = Path(__file__).resolve().parent
CHOICE_FIELDS = {"id", "query", "choices", "gold", "cluster"}
FREE_FIELDS = {"id", "query", "answer", "aliases", "cluster"}


def load(folder: str, **_: Any) -> dict[str, datasets.Dataset]:
    """The test split of the task in `folder` (relative to this file). Raises ValueError per row."""
    path = HERE / folder / "items.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    for number, row in enumerate(rows, start=1):
        wanted = CHOICE_FIELDS if "choices" in row else FREE_FIELDS
        if wanted - row.keys() or row.keys() != rows[0].keys():
            raise ValueError(f"{path}:{number}: fields {sorted(row)}, wanted {sorted(wanted)}")
    return {"test": datasets.Dataset.from_list(rows)}


def normalised(text: str) -> str:
    """First line, lower case, without outer punctuation and repeated spaces."""
    first = text.strip().split("\n", 1)[0]
    return re.sub(r"\s+", " ", first.lower()).strip(" .,;:!?\"'")


def exact(doc: Mapping[str, Any], results: list[str]) -> dict[str, float]:
    """lm-eval's hook of the free-form tasks: the answer or an alias; whether anything was said."""
    said = normalised(results[0])
    accepted = {normalised(text) for text in (doc["answer"], *doc["aliases"])}
    return {"exact_match": float(said in accepted), "valid": float(bool(said))}
