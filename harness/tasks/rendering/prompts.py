"""How an item becomes text: the one place that renders prompts and answers. Torch-free.

Training rows, rollouts, KL samples, contamination checks and frozen locks all render here. lm-eval
renders the same YAML by itself when it scores, and every scored prompt is compared with the lock's
hash, so trained and scored prompts cannot differ unnoticed. Templates hold `{{query}}` only, which
needs no Jinja. Writes nothing; leaves out token ids (tasks/rendering/encoding.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from retainbench.harness.core.errors import IntegrityError, UsageError

QUERY = "{{query}}"
"""Where the item's query goes in a template."""
STOP = "\n"
"""The string that ends a response, unless the task names others (`until`)."""

BETWEEN = "\n\n"
"""Between the solved examples of a prompt."""

Row = Mapping[str, Any]


def reference(row: Row) -> str:
    """What a model is trained to respond to an item: its worked solution, or its answer alone.

    >>> reference({"answer": "4", "solution": "2 + 2 = 4. #### 4"})
    '2 + 2 = 4. #### 4'
    """
    return str(row.get("solution", row["answer"]))


class Examples(NamedTuple):
    """The solved examples of a template."""

    text: str
    """What comes before the item's own question."""
    solved: list[tuple[str, str]]
    """Prompt and answer of each."""


class Template(NamedTuple):
    """The text around an item's query and its answer."""

    text: str
    """The prompt, with QUERY where the query goes; solved examples are part of it."""
    delimiter: str
    """Between prompt and choice or answer."""
    shots: int = 0
    """Solved examples in the prompt."""

    def prompt(self, row: Row) -> str:
        """What the model is asked."""
        return self.text.replace(QUERY, row["query"])

    def completion(self, row: Row) -> str:
        """The reference continuation of the prompt, without an end token."""
        return f"{self.delimiter}{reference(row)}"

    def solved(self, row: Row) -> str:
        """Prompt and reference continuation."""
        return self.prompt(row) + self.completion(row)

    def examples(self) -> Examples:
        """The solved examples one by one: blocks in the form of the last one, before it.

        Raises:
            UsageError: they are part of the query, or have another form.

        >>> Template("Q: 1+1\\nA: 2\\n\\nQ: {{query}}\\nA:", " ", shots=1).examples().solved
        [('Q: 1+1\\nA:', '2')]
        """
        *blocks, own = self.text.split(BETWEEN)
        head, _, tail = own.partition(QUERY)
        solved = []
        for block in blocks:
            query, found, answer = block.rpartition(tail + self.delimiter)
            if found and query.startswith(head):
                solved.append((query + tail, answer))
        if not len(solved) == len(blocks) == self.shots:
            raise UsageError(
                f"format.fewshot: turns: the {self.shots} solved examples of a prompt are not "
                f"blocks in the form of {own!r}. Use `fewshot: plain`"
            )
        return Examples("".join(block + BETWEEN for block in blocks), solved)


def template(doc_to_text: str, delimiter: str, path: Path, shots: int = 0) -> Template:
    """The template of a task's YAML; a bare `query` is the field itself, as lm-eval takes it.

    Raises:
        IntegrityError: `doc_to_text` uses anything besides `{{query}}`.
    """
    if doc_to_text in ("query", "gold"):
        return Template(QUERY, delimiter, shots)
    if any(mark in doc_to_text.replace(QUERY, "") for mark in ("{{", "{%", "{#")):
        raise IntegrityError(f"{path}: doc_to_text may only use {QUERY}")
    return Template(doc_to_text, delimiter, shots)


def judged(response: str, stops: Sequence[str] = (STOP,)) -> str:
    """The part of a response that is judged: everything before the first string that ends it.

    >>> judged(" 42\\nQuestion: next")
    ' 42'
    """
    return min((response.partition(stop)[0] for stop in stops), key=len, default=response)
