"""llama.cpp on a GGUF file's quantised kernels, in this process (llama-cpp-python).

Text becomes tokens by llama.cpp's own tokenizer, as where the file is served. Prompts are scored in
the order of their tokens, so that what neighbours share at their beginnings is computed once.
Needs `pip install 'retainbench[llama]'`, which compiles llama.cpp.

Leaves out: whole documents, adapters, and models split over several files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

import llama_cpp
import numpy as np
import numpy.typing as npt
import torch

from retainbench.harness.core.errors import IntegrityError, UsageError
from retainbench.harness.models.checked import Base
from retainbench.harness.models.checks.foreign import reading
from retainbench.harness.scoring.backend import GenerationOptions, generation_options
from retainbench.harness.scoring.engines.protocol import DocumentLikelihood, Prompt, WrittenText
from retainbench.harness.tasks.rendering.chat import Chat

Tokens = list[int]
MOST_TOKENS = 256
"""Of a response whose task names no number: lm-eval's default."""
ROOM = 256
"""A context is made in steps of so many tokens: llama.cpp keeps logits for all of it."""


class LlamaCppEngine:
    """A GGUF file in llama.cpp.

    arguments: of `llama_cpp.Llama`, such as `n_gpu_layers=-1` or `n_threads=8`.
    """

    name = "llama.cpp"

    def __init__(self, base: Base, arguments: Mapping[str, Any], chat: Chat | None = None) -> None:
        if base.source is None:
            raise UsageError(
                f"{base.folder}: llama.cpp reads GGUF files; give model.gguf, or leave the engine "
                "at transformers"
            )
        self._file = base.source
        self._arguments = dict(arguments)
        self._window = base.window or 2048
        self._chat = chat
        self._size = 0
        self._fit(ROOM)

    def likelihoods(self, prompts: Sequence[Prompt]) -> Sequence[tuple[float, bool]]:
        """Contexts that do not fit are cut from the left."""
        asked = [self._request(*prompt) for prompt in prompts]
        self._fit(max(len(context) + len(wanted) for context, wanted in asked))
        order = sorted(range(len(asked)), key=lambda index: [*asked[index][0], *asked[index][1]])
        answers: dict[int, tuple[float, bool]] = {}
        held: Tokens = []
        for index in order:
            context, wanted = asked[index]
            held = self._read(held, context + wanted)
            rows = self._model.scores[len(context) - 1 : len(held) - 1]
            answers[index] = _likelihood(rows, wanted)
        return [answers[index] for index in range(len(asked))]

    def texts(
        self, prompts: Sequence[str], options: Mapping[str, Any], seed: int
    ) -> Sequence[WrittenText]:
        """Greedy, or sampled with a temperature."""
        chosen = generation_options(dict(options), MOST_TOKENS)
        room = self._window - chosen.tokens
        if room < 1:
            raise UsageError(f"{chosen.tokens} new tokens do not fit into {self._window}")
        until = [*chosen.until, *([self._chat.end.strip()] if self._chat else [])]
        asked = [self._tokens(prompt)[-room:] for prompt in prompts]
        self._fit(max(map(len, asked)) + chosen.tokens)
        return [self._text(tokens, chosen, until, seed) for tokens in asked]

    def documents(self, texts: Sequence[str]) -> Sequence[DocumentLikelihood]:
        """Not offered: a text may be longer than the window."""
        raise NotImplementedError

    def _text(
        self, tokens: Tokens, chosen: GenerationOptions, until: list[str], seed: int
    ) -> WrittenText:
        made = self._model.create_completion(
            tokens,
            max_tokens=chosen.tokens,
            temperature=chosen.temperature,
            top_k=0,
            top_p=1.0,
            min_p=0.0,
            stop=until,
            seed=seed,
        )["choices"][0]
        return WrittenText(str(made["text"]), made["finish_reason"] == "length")

    def _fit(self, tokens: int) -> None:
        """Make a context of at least so many tokens; llama.cpp cannot enlarge one."""
        if tokens <= self._size:
            return
        self._size = -(-tokens // ROOM) * ROOM
        # llama.cpp's own default is a thread a core, whatever this process was given.
        threads = {name: torch.get_num_threads() for name in ("n_threads", "n_threads_batch")}
        options = {"logits_all": True, "verbose": False, "seed": 0, **threads, **self._arguments}
        with reading(self._file, "the model"):
            self._model = llama_cpp.Llama(str(self._file), n_ctx=self._size, **options)
        model = llama_cpp.llama_get_model(self._model.ctx)
        self._stateful = llama_cpp.llama_model_is_recurrent(model)
        self._stateful |= llama_cpp.llama_model_is_hybrid(model)

    def _tokens(self, text: str) -> Tokens:
        begins = self._chat is None and self._begins()
        return list(self._model.tokenize(text.encode(), add_bos=begins, special=True))

    def _begins(self) -> bool:
        return str(self._model.metadata.get("tokenizer.ggml.add_bos_token", "false")) == "true"

    def _request(self, context: str, continuation: str) -> tuple[Tokens, Tokens]:
        """Tokens of both; as in lm-eval, spaces at the end of a context are the continuation's."""
        head = self._tokens(context.rstrip()) or [self._model.token_bos()]
        whole = self._tokens(context + continuation)
        wanted = whole[len(head) :] if context else whole
        if not 0 < len(wanted) < self._window:
            raise IntegrityError(f"{self._file}: cannot score {len(wanted)} tokens after a prompt")
        return head[-(self._window - len(wanted)) :], wanted

    def _read(self, held: Tokens, tokens: Tokens) -> Tokens:
        """Bring the context to these tokens, given those that it holds; return them."""
        shared = 0 if self._stateful else _shared(held, tokens)
        if shared < len(tokens):
            if shared == 0:
                self._model.reset()
            self._model.n_tokens = shared
            self._model.eval(tokens[shared:])
        return tokens


def llama_cpp_version() -> str:
    """Of the installed llama-cpp-python."""
    return version("llama-cpp-python")


def _shared(first: Tokens, second: Tokens) -> int:
    """Length of the common beginning."""
    pairs = zip(first, second, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(first), len(second)))


def _likelihood(logits_TV: npt.NDArray[np.float32], wanted: Tokens) -> tuple[float, bool]:
    """Sum of log softmax at the wanted tokens, in float64; whether each is the arg max."""
    exact_TV = logits_TV.astype(np.float64)
    peak_T = exact_TV.max(axis=1)
    norm_T = peak_T + np.log(np.exp(exact_TV - peak_T[:, None]).sum(axis=1))
    value = exact_TV[np.arange(len(wanted)), wanted] - norm_T
    return float(value.sum()), bool((logits_TV.argmax(axis=1) == wanted).all())
