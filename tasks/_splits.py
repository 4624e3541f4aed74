"""Splits of the generated targets: draw, keep apart, write.

A target's build.py offers `problem(rng) -> (Question, extra fields)`. Problems are drawn without
repeats; the test split comes first, then validation, train, and the primer, which is what the
corpus of the embedded base may see. Splits share no query after normalisation.
"""

from collections.abc import Callable
from pathlib import Path
from random import Random

from retainbench.tasks._build import Question, item_id, normalised, write_jsonl

Maker = Callable[[Random], tuple[Question, dict[str, object]]]
SIZES = {"test": 300, "validation": 150, "train": 3000, "primer": 3000}


def rows(name: str, maker: Maker, split: str) -> list[dict[str, object]]:
    """Rows of one split of the target `name`."""
    rng = Random(name)
    total = sum(SIZES.values())
    seen: dict[str, tuple[Question, dict[str, object]]] = {}
    for _ in range(total * 20):
        if len(seen) == total:
            break
        question, extra = maker(rng)
        seen.setdefault(normalised(question.query), (question, extra))
    if len(seen) < total:
        raise ValueError(f"{name}: only {len(seen)} different problems, {total} are needed")
    start = sum(
        size for key, size in SIZES.items() if list(SIZES).index(key) < list(SIZES).index(split)
    )
    made = []
    for question, extra in list(seen.values())[start : start + SIZES[split]]:
        identity = item_id(name, question)
        row: dict[str, object] = {"id": identity, "query": question.query}
        row |= {"answer": question.answer, "aliases": [], "cluster": question.unit or identity}
        made.append(row | extra)
    return made


def freeze_splits(folder: Path, maker: Maker) -> None:
    """Write train.jsonl, validation.jsonl and items.jsonl of the target in `folder`."""
    for split, stem in (("train", "train"), ("validation", "validation"), ("test", "items")):
        write_jsonl(folder / f"{stem}.jsonl", rows(folder.name, maker, split))
