"""What every engine offers: prompts in, log-likelihoods and text out; and the check of its answers.

`checked_likelihoods` and `checked_texts` are the only way to ask an engine. A foreign library or a
server may return too few answers, NaN, or nothing at all; here that ends the command before a
record is written.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol

from retainbench.harness.core.errors import IntegrityError, RetainbenchError, UsageError
from retainbench.harness.models.checks.foreign import first_line

Prompt = tuple[str, str]
"""A context, and the continuation whose log-likelihood is asked."""


class Likelihood(NamedTuple):
    """The answer about one continuation."""

    value: float
    """Natural log, summed over the continuation's tokens."""
    greedy: bool
    """Every token of it is the most likely one."""


class DocumentLikelihood(NamedTuple):
    """The answer about a whole text."""

    value: float
    """Natural log, summed over its tokens."""
    tokens: int


class WrittenText(NamedTuple):
    """A response."""

    text: str
    """Up to the first stop string."""
    cut: bool | None = None
    """It used all its tokens before it ended by itself; None: the engine does not say."""


class Engine(Protocol):
    """A model that is ready to answer."""

    name: str
    """As the user chose it: `transformers`, `llama.cpp`, `lm-eval:NAME`."""

    def likelihoods(self, prompts: Sequence[Prompt]) -> Sequence[tuple[float, bool]]:
        """One answer for each prompt, in their order."""
        ...

    def texts(
        self, prompts: Sequence[str], options: Mapping[str, Any], seed: int
    ) -> Sequence[WrittenText]:
        """One response for each prompt; `options` are a task's `generation_kwargs`."""
        ...

    def documents(self, texts: Sequence[str]) -> Sequence[DocumentLikelihood]:
        """The log-likelihood of each whole text, without a context."""
        ...


def checked_likelihoods(engine: Engine, prompts: Sequence[Prompt]) -> list[Likelihood]:
    """Ask for log-likelihoods.

    Raises:
        IntegrityError: the engine failed, or answered with another number of values or with one
            that is not a log-likelihood.
        UsageError: it cannot give log-likelihoods.
    """
    with _asking(engine, "log-likelihoods"):
        answers = list(engine.likelihoods(prompts))
    _require_all(engine, answers, prompts)
    for answer, prompt in zip(answers, prompts, strict=True):
        value = answer[0]
        if not isinstance(value, float) or not math.isfinite(value):
            raise IntegrityError(
                f"{engine.name}: answered {value!r} for the log-likelihood of {prompt[1][:60]!r}; "
                "check the server or the model"
            )
    return [Likelihood(value, bool(greedy)) for value, greedy in answers]


def checked_documents(engine: Engine, texts: Sequence[str]) -> list[DocumentLikelihood]:
    """Ask for the log-likelihoods of whole texts.

    Raises:
        IntegrityError, UsageError: as `checked_likelihoods`.
    """
    with _asking(engine, "log-likelihoods of documents"):
        answers = list(engine.documents(texts))
    _require_all(engine, answers, texts)
    for answer in answers:
        if not math.isfinite(answer.value) or answer.tokens < 1:
            raise IntegrityError(f"{engine.name}: answered {answer!r} for a whole text")
    return answers


def checked_texts(
    engine: Engine, prompts: Sequence[str], options: Mapping[str, Any], seed: int
) -> list[WrittenText]:
    """Ask for responses; sampled ones are drawn from the seed.

    Raises:
        IntegrityError: the engine failed, or answered with another number of texts.
        UsageError: it has no such option.
    """
    with _asking(engine, "responses"):
        answers = list(engine.texts(prompts, options, seed))
    _require_all(engine, answers, prompts)
    for answer in answers:
        if not isinstance(answer.text, str):
            raise IntegrityError(f"{engine.name}: answered {answer.text!r} where a text was asked")
    return answers


def _require_all(engine: Engine, answers: Sequence[object], prompts: Sequence[object]) -> None:
    if len(answers) != len(prompts):
        raise IntegrityError(
            f"{engine.name}: gave {len(answers)} answers to {len(prompts)} prompts; check the "
            "server or the model"
        )


@contextmanager
def _asking(engine: Engine, what: str) -> Iterator[None]:
    """Turn what a foreign engine raises into one line; our own engine's errors stay as they are."""
    try:
        yield
    except NotImplementedError as error:
        raise UsageError(
            f"{engine.name} gives no {what}; leave out the tasks that need them, or choose "
            "another engine"
        ) from error
    except (RetainbenchError, MemoryError):
        raise
    except Exception as error:
        if engine.name == "transformers":
            raise
        raise IntegrityError(
            f"{engine.name}: failed to give {what}: {type(error).__name__}: {first_line(error)}"
        ) from error
