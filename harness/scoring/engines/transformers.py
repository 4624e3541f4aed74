"""The default engine: a loaded transformers model behind our trie scorer (scoring/backend.py)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lm_eval.api.instance import Instance

from retainbench.harness.models.loading import Loaded
from retainbench.harness.scoring.backend import TrieLM
from retainbench.harness.scoring.engines.protocol import DocumentLikelihood, Prompt, WrittenText
from retainbench.harness.scoring.packing.packed import tokens_per_pass
from retainbench.harness.tasks.rendering.chat import Chat


class TransformersEngine:
    """A transformers model; answers do not depend on what else is asked, but for rounding.

    chat: as in `TrieLM`.
    small_batches: a third of the tokens per pass, and a hundred responses in flight.
    """

    name = "transformers"

    def __init__(
        self, loaded: Loaded, chat: Chat | None = None, small_batches: bool = False
    ) -> None:
        batch = (
            {"tokens_per_pass": max(1, tokens_per_pass(loaded.model) // 3), "rows": 100}
            if small_batches
            else {}
        )
        self._model = TrieLM(loaded.model, tokenizer=loaded.tokenizer, chat=chat, **batch)

    def likelihoods(self, prompts: Sequence[Prompt]) -> Sequence[tuple[float, bool]]:
        """All prompts of a call share the computation of equal beginnings."""
        return self._model.loglikelihood([_request("loglikelihood", prompt) for prompt in prompts])

    def texts(
        self, prompts: Sequence[str], options: Mapping[str, Any], seed: int
    ) -> Sequence[WrittenText]:
        """Greedy, or sampled with a temperature from a generator of its own."""
        self._model.seed = seed
        texts = self._model.generate_until(
            [_request("generate_until", (prompt, dict(options))) for prompt in prompts]
        )
        ends = zip(texts, self._model.stopped, strict=True)
        return [WrittenText(text, not stopped) for text, stopped in ends]

    def documents(self, texts: Sequence[str]) -> Sequence[DocumentLikelihood]:
        """In windows of the model's length, with one token of context."""
        values = self._model.loglikelihood_rolling(
            [_request("loglikelihood_rolling", (text,)) for text in texts]
        )
        sizes = [len(self._model.tok_encode(text)) for text in texts]
        return list(map(DocumentLikelihood, values, sizes))

    def planned(self, prompts: Sequence[Prompt]) -> int | None:
        """Tokens that scoring these prompts will compute."""
        tokens: int | None = self._model.planned(
            [_request("loglikelihood", prompt) for prompt in prompts]
        )
        return tokens


def _request(kind: str, arguments: tuple[Any, ...]) -> Instance:
    return Instance(request_type=kind, doc={}, arguments=arguments, idx=0)
