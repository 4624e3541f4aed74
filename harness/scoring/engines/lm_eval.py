"""Any model that lm-eval can load: vllm, sglang, openvino, an OpenAI-compatible server, ...

`lm-eval:NAME` with `--engine-args key=value,...` is the model that `lm_eval --model NAME
--model_args key=value,...` would use. Model and tokenizer are ours unless the arguments name
others. What servers return is checked before lm-eval reads it (`_watch`): lm-eval would take a
response without prompt log-probabilities for a log-likelihood of 0, drop surplus answers silently,
and never notice that another model answers.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.api.registry import get_model

from retainbench.harness.core.errors import IntegrityError, UsageError
from retainbench.harness.core.names import nearest
from retainbench.harness.models.checked import Base
from retainbench.harness.models.checks.foreign import first_line
from retainbench.harness.scoring.engines.protocol import DocumentLikelihood, Prompt, WrittenText
from retainbench.harness.tasks.rendering.chat import Chat

PREFIX = "lm-eval:"
UNSUPPORTED = "its server returns no log-probabilities of the prompt"


class LmEvalEngine:
    """A model of lm-eval.

    model: named `name` in lm-eval, with the arguments that the user gave.
    """

    def __init__(
        self,
        model: str,
        base: Base,
        arguments: Mapping[str, Any],
        device: str,
        chat: Chat | None = None,
    ) -> None:
        self.name = PREFIX + model
        self._end = chat.end.strip() if chat else None
        given = {**_defaults(model, base, chat), **arguments}
        with _quiet():
            self._model = _made(model, given, device)
        self._answered_by: str | None = None
        if hasattr(self._model, "parse_logprobs"):
            _watch(self)
        elif hasattr(self._model, "gguf_completion"):
            _watch_gguf(self)

    def likelihoods(self, prompts: Sequence[Prompt]) -> Sequence[tuple[float, bool]]:
        """One request for each prompt, or as many at once as the arguments ask for."""
        with _quiet():
            answers = self._model.loglikelihood(_instances("loglikelihood", prompts))
        return [(float(value), bool(greedy)) for value, greedy in answers]

    def texts(
        self, prompts: Sequence[str], options: Mapping[str, Any], seed: int
    ) -> Sequence[WrittenText]:
        """Stop strings are cut off, as all engines do."""
        if hasattr(self._model, "_seed"):
            self._model._seed = seed  # a server's, sent with each request
        until = [*options.get("until", []), *([self._end] if self._end else [])]
        asked = [(prompt, {**options, "until": until}) for prompt in prompts]
        with _quiet():
            answers = self._model.generate_until(_instances("generate_until", asked))
        return [WrittenText(_cut(answer, until)) for answer in answers]

    def documents(self, texts: Sequence[str]) -> Sequence[DocumentLikelihood]:
        """In windows, as lm-eval's model makes them."""
        asked = _instances("loglikelihood_rolling", [(text,) for text in texts])
        with _quiet():
            values = self._model.loglikelihood_rolling(asked)
            sizes = [len(self._model.tok_encode(text)) for text in texts]
        return list(map(DocumentLikelihood, values, sizes))

    def same_model(self, answered_by: str) -> None:
        """Raise `IntegrityError` where a server names another model than before."""
        if self._answered_by not in (None, answered_by):
            raise IntegrityError(
                f"{self.name}: its server answered as {self._answered_by[:80]!r}, then as "
                f"{answered_by[:80]!r}; score one model at a time"
            )
        self._answered_by = answered_by


def lm_eval_version() -> str:
    """Of the installed lm-eval, whose client or wrapper is used."""
    return version("lm-eval")


def _made(name: str, arguments: Mapping[str, Any], device: str) -> Any:
    try:
        made = get_model(name)
    except ValueError as error:
        known = re.findall(r"[\w.-]+", str(error).rpartition("names:")[2])
        raise UsageError(
            f"lm-eval has no model {name!r}{nearest(name, known)} `lm_eval --help` lists them"
        ) from error
    except ImportError as error:
        raise UsageError(_missing(name, error)) from error
    try:
        model = made.create_from_arg_obj(dict(arguments), {"device": device})
    except ImportError as error:
        raise UsageError(_missing(name, error)) from error
    except Exception as error:
        raise UsageError(
            f"lm-eval cannot make its model {name} with these --engine-args: "
            f"{type(error).__name__}: {first_line(error)}"
        ) from error
    if getattr(model, "base_url", "") is None:
        raise UsageError(
            f"lm-eval's model {name} asks a server: add --engine-args base_url=http..."
        )
    return model


def _missing(name: str, error: ImportError) -> str:
    return f"lm-eval's model {name} needs a library that is not installed: {first_line(error)}"


def _defaults(name: str, base: Base, chat: Chat | None) -> dict[str, Any]:
    """What lm-eval would have to know about the checked model.

    lm-eval's own default for a server's window is 2048 tokens.
    """
    if name in ("gguf", "ggml"):
        return {"max_length": base.window or 2048}
    found: dict[str, Any] = {"pretrained": str(base.folder), "tokenizer": str(base.reader)}
    if "completions" in name:
        # A server counts the token that it generates; lm-eval subtracts it.
        found |= {"max_length": (base.window or 2047) + 1, "tokenizer_backend": "huggingface"}
        found |= {"add_bos_token": chat is None and _begins(base)}
    return found


def _begins(base: Base) -> bool:
    """Whether the tokenizer puts a token before every text."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base.reader, local_files_only=True)
    ids: list[int] = tokenizer("a").input_ids
    return bool(ids) and ids[0] == tokenizer.bos_token_id


def _instances(kind: str, arguments: Sequence[tuple[Any, ...]]) -> list[Instance]:
    return [
        Instance(request_type=kind, doc={}, arguments=asked, idx=0, metadata=("", number, 1))
        for number, asked in enumerate(arguments)
    ]


def _cut(text: str, until: Sequence[str]) -> str:
    for stop in until:
        if stop:
            text = text.partition(stop)[0]
    return text


def _watch(engine: LmEvalEngine) -> None:
    """Look at each response of a server before lm-eval does.

    lm-eval calls both parsers as methods of the model, so a function in the instance is called.
    """
    model = engine._model
    parse_likelihoods, parse_texts = model.parse_logprobs, model.parse_generations

    def likelihoods(outputs: Any, tokens: Any = None, ctxlens: Any = None, **more: Any) -> Any:
        _check_responses(engine, outputs, len(ctxlens))
        _check_likelihoods(engine, outputs, tokens)
        return parse_likelihoods(outputs=outputs, tokens=tokens, ctxlens=ctxlens, **more)

    def texts(outputs: Any, **more: Any) -> Any:
        _check_responses(engine, outputs, None)
        return parse_texts(outputs=outputs, **more)

    model.parse_logprobs, model.parse_generations = likelihoods, texts


def _watch_gguf(engine: LmEvalEngine) -> None:
    """The same for lm-eval's `gguf`, which sends one text at a time and parses what comes back."""
    ask = engine._model.gguf_completion

    def asked(context: str, continuation: str | None = None, **more: Any) -> Any:
        output = ask(context=context, continuation=continuation, **more)
        _check_responses(engine, output, 1)
        if continuation:
            _check_likelihoods(engine, output, None)
        return output

    engine._model.gguf_completion = asked


def _choices(outputs: Any) -> list[Any]:
    responses = outputs if isinstance(outputs, list) else [outputs]
    return [choice for response in responses for choice in response["choices"]]


def _check_responses(engine: LmEvalEngine, outputs: Any, wanted: int | None) -> None:
    """One choice for each prompt, all from one model."""
    responses = outputs if isinstance(outputs, list) else [outputs]
    for response in responses:
        if not isinstance(response, dict) or not isinstance(response.get("choices"), list):
            raise IntegrityError(f"{engine.name}: not a response of a completions server")
        engine.same_model(f"{response.get('model')}, {response.get('system_fingerprint')}")
    found = len(_choices(outputs))
    if wanted is not None and found != wanted:
        raise IntegrityError(f"{engine.name}: its server gave {found} answers to {wanted} prompts")


def _check_likelihoods(engine: LmEvalEngine, outputs: Any, tokens: Any) -> None:
    """Every token of a prompt has a log-probability, and so has the one that the server adds.

    lm-eval leaves the last one out of its sum. llama-cpp-python's server gives none for the token
    that it adds, and pairs each token with the prediction of the next: its numbers are wrong.
    """
    refusal = UsageError(
        f"{engine.name}: {UNSUPPORTED}, so it can answer tasks with free responses only; leave out "
        "tasks with choices, or choose a server that supports echo with logprobs"
    )
    for number, choice in enumerate(_choices(outputs)):
        found = (choice.get("logprobs") or {}).get("token_logprobs")
        if not isinstance(found, list) or not found:
            raise refusal
        asked = len(tokens[number]) if tokens is not None else _prompt_tokens(outputs)
        if asked is not None and len(found) <= 1 < asked:
            raise refusal
        if asked is not None and len(found) != asked + 1:
            raise IntegrityError(
                f"{engine.name}: its server gave {len(found)} log-probabilities for a prompt of "
                f"{asked} tokens and the token after it; name its tokenizer in --engine-args, or "
                "choose another server"
            )
        for value in found[1:]:
            if not isinstance(value, float | int) or not math.isfinite(value):
                raise IntegrityError(
                    f"{engine.name}: its server gave {value!r} as a log-probability"
                )


def _prompt_tokens(output: Any) -> int | None:
    """Of the one prompt of a response, as its server counts them; None where it does not."""
    count = (output.get("usage") or {}).get("prompt_tokens")
    return count if isinstance(count, int) else None


class _quiet:  # noqa: N801 - used as a context
    """Silence lm-eval's and its client's loggers: what fails is raised, in one line."""

    names = ("lm_eval", "asyncio", "urllib3")

    def __enter__(self) -> None:
        self._before = [logging.getLogger(name).level for name in self.names]
        for name in self.names:
            logging.getLogger(name).setLevel(logging.CRITICAL + 1)

    def __exit__(self, *_: object) -> None:
        for name, level in zip(self.names, self._before, strict=True):
            logging.getLogger(name).setLevel(level)
