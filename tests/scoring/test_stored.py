"""Two commands at once share one store."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from retainbench.harness.core.files.storage import intact, write_jsonl
from retainbench.harness.core.records import ItemRecord
from retainbench.harness.models import loading
from retainbench.harness.scoring import evaluate, stored
from retainbench.harness.tasks.catalogue import OWN, TaskInfo


def test_the_first_of_two_commands_writes_the_records(tiny_base: Path, tmp_path: Path) -> None:
    """Theirs differ in last digits where they compute with other numbers of threads."""
    infos, store = OWN.find(["capitals"]), stored.Store(tmp_path, {}, items=3)
    ours = evaluate.evaluate(loading.load(tiny_base), infos, limit=3)
    theirs = [one.model_copy(update={"choice_logprobs": [-1.0] * 4}) for one in ours]
    file = store.path("m", infos[0])

    def score(_: Sequence[TaskInfo]) -> Iterator[list[ItemRecord]]:
        write_jsonl(file, theirs, checked=True)
        yield ours

    assert store.records("m", infos, score) == theirs != ours
    assert intact(file)
