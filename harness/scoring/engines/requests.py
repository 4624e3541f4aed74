"""lm-eval's requests put to an engine: each gets its answer, and what else the engine tells."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from retainbench.harness.scoring.engines.protocol import (
    Engine,
    checked_documents,
    checked_likelihoods,
    checked_texts,
)


@dataclass
class RequestAnswers:
    """By lm-eval's number of a document, what is known besides its answers."""

    cut: dict[int, bool] = field(default_factory=dict)
    """Its response ended at the limit of new tokens."""
    tokens: dict[int, int] = field(default_factory=dict)
    """Of the document, where its whole text was scored."""

    def ask(
        self, engine: Engine, kind: str, requests: Sequence[Any], options: str, seed: int
    ) -> None:
        """Answer requests of one kind.

        Args:
            requests: lm-eval's `Instance`s; their `resps` get the answers.
            options: of generation, as JSON.
        """
        if kind == "loglikelihood":
            asked = [request.args for request in requests]
            answers: Sequence[Any] = checked_likelihoods(engine, asked)
        elif kind == "loglikelihood_rolling":
            documents = checked_documents(engine, [request.args[0] for request in requests])
            answers = [document.value for document in documents]
            for request, document in zip(requests, documents, strict=True):
                self.tokens[request.doc_id] = document.tokens
        else:
            prompts = [request.args[0] for request in requests]
            written = checked_texts(engine, prompts, json.loads(options), seed)
            answers = [text.text for text in written]
            for request, text in zip(requests, written, strict=True):
                if text.cut is not None:
                    self.cut[request.doc_id] = text.cut
        for request, answer in zip(requests, answers, strict=True):
            request.resps.append(answer)

    def besides(self, document: int) -> dict[str, Any]:
        """Fields of a document's sample row."""
        tokens = {"tokens": self.tokens[document]} if document in self.tokens else {}
        return {"cut": self.cut.get(document), **tokens}
