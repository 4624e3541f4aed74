"""Documents for held-out perplexity, composed of what the tasks of one axis ask.

Reads nothing. A document is a few paragraphs in the forms of the corpus of the embedded base
(`_corpus.py`): a plain statement, or a question with its answer. Their content is drawn from the
frozen questions of the axis' tasks, which the corpus leaves out where a family is open, so such a
paragraph is text that the embedded base has not seen; facts of closed tables it should know.
Documents are drawn independently of each other: each one is its own cluster.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random

from retainbench.tasks._build import Question, freeze_free

DOCUMENTS = 160
PARAGRAPHS = (4, 6)
"""Fewest and most of a document."""
STATED = 0.5
"""Share of statements among the paragraphs that can be one."""


def paragraph(question: Question, rng: Random) -> str:
    """A statement, or the question with its answer."""
    if question.statements and (not question.query or rng.random() < STATED):
        return rng.choice(question.statements)
    return f"Question: {question.query}\nAnswer: {question.answer}"


def documents(name: str, sources: Mapping[str, Sequence[Question]]) -> list[str]:
    """The documents of a task: every source equally often, and in it every family.

    Args:
        name: the task; seeds the draw.
        sources: task -> its frozen questions.
    """
    rng = Random(f"{name}:documents")
    families: dict[str, dict[str, list[Question]]] = {task: {} for task in sources}
    for task, questions in sources.items():
        for question in questions:
            families[task].setdefault(question.family, []).append(question)
    found: list[str] = []
    while len(found) < DOCUMENTS:
        paragraphs = []
        for _ in range(rng.randint(*PARAGRAPHS)):
            family = rng.choice(sorted(families[rng.choice(sorted(families))].items()))[1]
            paragraphs.append(paragraph(rng.choice(family), rng))
        found.append("\n\n".join(paragraphs))
    return found


def freeze_texts(folder: Path, sources: Mapping[str, Sequence[Question]]) -> None:
    """Write items.jsonl of the task of documents in `folder`."""
    texts = documents(folder.name, sources)
    freeze_free(folder, [Question("", text, (), "document") for text in texts])
