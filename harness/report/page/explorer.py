"""`flips.html`: which items a candidate lost and gained, with prompt, choices and both answers.

The flips explorer of the run report as a page of its own, for pairs that have no run: the gate's
(`retainbench gate --out DIR`) and a certificate's (`retainbench report CERTIFICATE --out PAGE`).
Prompts are those of the installed tasks and packs, or of the adopted log; where there is none, the
page says so. Nothing is decided by it, and `verify` neither makes nor expects it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from retainbench.harness.core.files.storage import write_text
from retainbench.harness.gate.command import FinishedGate
from retainbench.harness.report.page import flips as report_flips
from retainbench.harness.report.page.flips import Asked, FlipPair
from retainbench.harness.report.page.html import document, embedded, flip_note, template
from retainbench.harness.scoring.item_records import item_texts
from retainbench.harness.tasks.catalogue import OWN, Catalogue

NAME = "flips.html"


def page(title: str, pairs: Sequence[FlipPair], asked: Asked) -> str:
    """The explorer as one HTML document without network; equal records give equal bytes.

    Raises:
        IntegrityError: a record is malformed, or the base has no answer to an item.
    """
    flips = report_flips.between(pairs, asked)
    return document(
        NAME,
        [template("flips.js")],
        ("table.css", "report.css"),
        title=title,
        choices={"name": "Pair", "task": "Task"} if len(pairs) > 1 else {"task": "Task"},
        flips=embedded(report_flips.payload(flips)),
        flip_note=flip_note(flips),
    )


def of_tasks(tasks: Catalogue) -> Asked:
    """The texts of the tasks of a catalogue; none of others."""
    known = tasks.tasks
    return lambda task: item_texts(known[task]) if task in known else ()


def write_for_gate(folder: Path, finished: FinishedGate, tasks: Catalogue = OWN) -> None:
    """Write the page of a gate of record files or adopted results; a run's report has its own."""
    if finished.answers is None:
        return
    base, candidate, texts = finished.answers
    pair = FlipPair(finished.results[0].label, base, candidate)
    asked: Asked = of_tasks(tasks) if texts is None else lambda task: texts.get(task, ())
    write_text(folder / NAME, page(f"{pair.name} against its base", [pair], asked))
