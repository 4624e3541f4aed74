"""KL divergence between base and candidate on continuations of given prompts (METHODS 15).

Reads two loaded models and prompts (`divergence/continuations.py` continues them). The primary
number is the forward KL(base || candidate), exact over the full vocabulary at each token of
continuations that the base samples at temperature 1 without top-k or top-p. It also gives the
exact reverse KL in the same contexts, and the sampled estimators k1, k2, k3 of the sampler's
direction, on the same tokens.

Every sampled token counts once, the one that ends a continuation (end of text, or a newline)
included; prompt tokens and padding never. Logits are computed in the models' dtype, the log-softmax
and all sums in float64. Values on continuations from different samplers have different contexts and
must not be compared. A candidate may have tokens that the base has not: then both are compared on
the tokens that both have, each model's probabilities normalised to them.

Command: part of `retainbench run` and `certify`.

Left out: KL on greedy text (no estimator of it is valid), and top-k truncated KL.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal

import numpy as np

from retainbench.harness.core.changes import Interval
from retainbench.harness.core.errors import IntegrityError
from retainbench.harness.core.scorecards import DivergenceSummary
from retainbench.harness.divergence.continuations import EVERY_PROMPT, Extent, continued
from retainbench.harness.divergence.forward import LOGIT_BYTES, Vector, per_continuation
from retainbench.harness.divergence.records import (
    Continuation,
    DivergenceReport,
    KlDirection,
    KlEstimate,
)
from retainbench.harness.models.inference import frozen
from retainbench.harness.models.loading import Loaded
from retainbench.harness.statistics.graded import t_quantile
from retainbench.harness.tasks.rendering.chat import PLAIN, Rendering

LEVEL = 0.90
SampledFrom = Literal["base", "candidate"]
ESTIMATOR = (
    "exact over the vocabulary in float64, mean per token of continuations sampled from the base "
    "at temperature 1; reverse on the same contexts; k1, k2, k3 estimate the forward direction"
)


def summarise(
    base: Loaded,
    candidate: Loaded,
    prompts: Mapping[str, Sequence[str]],
    *,
    max_new_tokens: int,
    extent: Extent = EVERY_PROMPT,
    cache: Path | None = None,
    seed: int = 0,
    rendering: Rendering = PLAIN,
) -> DivergenceSummary:
    """Exact KL on several sets of prompts, as the scorecard's columns.

    Args:
        base: the base with its tokenizer.
        candidate: the candidate with its tokenizer.
        prompts: set (`target`, `general`, ...) -> prompts, rendered.
        max_new_tokens: longest continuation.
        extent: how many of the prompts are continued.
        cache: where continuations of the base are kept, for all its candidates.
        seed: of the continuations.
        rendering: what rendered the prompts; it encodes them and says what ends a continuation.

    Raises:
        IntegrityError: the tokenizers differ, or a model gives NaN.
    """
    require_same_tokens(base.tokenizer, candidate.tokenizer, prompts, rendering)
    reports = {
        name: divergence(
            base.model,
            candidate.model,
            continued(
                base,
                texts,
                extent,
                max_new_tokens=max_new_tokens,
                cache=cache,
                seed=seed,
                rendering=rendering,
            ),
            prompt_set=name,
            shared=shared_tokens(base, candidate),
        )
        for name, texts in prompts.items()
    }
    exact = {name: report.find("base || candidate", "exact") for name, report in reports.items()}
    reverse = {name: report.find("candidate || base", "exact") for name, report in reports.items()}
    return DivergenceSummary(
        forward={name: estimate.per_token for name, estimate in exact.items()},
        reverse={name: estimate.per_token for name, estimate in reverse.items()},
        tokens={name: report.tokens for name, report in reports.items()},
        estimator=ESTIMATOR,
        prompt_weighted={name: estimate.per_prompt for name, estimate in exact.items()},
        intervals={
            name: found
            for name, one in exact.items()
            if (found := interval(one, reports[name].prompts))
        },
        sampled={
            name: {k: report.find("base || candidate", k).per_token for k in ("k1", "k2", "k3")}
            for name, report in reports.items()
        },
    )


def interval(found: KlEstimate, prompts: int) -> Interval | None:
    """Of a KL per token: t with prompts as clusters; None for one prompt.

    Estimator: a ratio of sums, its error by linearisation (`estimate`); 90 %, as all intervals are.
    """
    if found.per_token_error is None:
        return None
    half = t_quantile((1 + LEVEL) / 2, prompts - 1) * found.per_token_error
    return Interval(
        value=found.per_token,
        low=found.per_token - half,
        high=found.per_token + half,
        level=LEVEL,
        n=prompts,
        method="t over prompts",
    )


def shared_tokens(base: Loaded, candidate: Loaded) -> int | None:
    """Rows of the smaller embedding where a candidate's was resized for more tokens, else None."""
    sizes = {side.model.config.get_text_config().vocab_size for side in (base, candidate)}
    return min(sizes) if len(sizes) > 1 else None


def require_same_tokens(
    base: Any,
    candidate: Any,
    prompts: Mapping[str, Sequence[str]],
    rendering: Rendering = PLAIN,
) -> None:
    """Raise `IntegrityError` unless the base's tokens and the ids of all prompts are the same.

    The candidate may have more tokens.
    """
    if not base.get_vocab().items() <= candidate.get_vocab().items():
        raise IntegrityError("base and candidate have different vocabularies; KL is undefined")
    for name, texts in prompts.items():
        for text in texts:
            if rendering.encode(base, [text]) != rendering.encode(candidate, [text]):
                raise IntegrityError(
                    f"base and candidate tokenise a prompt of {name!r} differently: {text[:40]!r}"
                )


def divergence(
    base: Any,
    candidate: Any,
    continuations: Sequence[Continuation],
    *,
    prompt_set: str,
    sampler: SampledFrom = "base",
    logit_bytes: int = LOGIT_BYTES,
    shared: int | None = None,
) -> DivergenceReport:
    """Exact and sampled KL between two models, in nats.

    Args:
        base: a causal language model of transformers.
        candidate: another one with the same vocabulary, on any device; with more tokens too where
            `shared` says how many to compare (`forward.per_continuation`).
        continuations: sampled at temperature 1 from `sampler`; at least one token in all.
        prompt_set: name of the set of prompts, for the report.
        sampler: which of the two models wrote them; the sampled estimators estimate the KL from it.
        logit_bytes: memory for logits; changes speed only.

    Raises:
        IntegrityError: the vocabularies differ in size, or a divergence is NaN or infinite.
    """
    p, q = (base, candidate) if sampler == "base" else (candidate, base)
    tokens = [len(one.ids) for one in continuations]
    if not sum(tokens):
        raise IntegrityError(f"prompt set {prompt_set!r} has no continuation to measure")
    with ExitStack() as stack:
        for model in {id(m): m for m in (p, q)}.values():
            stack.enter_context(frozen(model))
        found = per_continuation(p, q, continuations, logit_bytes, shared)
    for one, values in zip(continuations, found, strict=True):
        if not np.isfinite(values).all():
            raise IntegrityError(
                f"{prompt_set}: the divergence after {one.prompt[:40]!r} is NaN or infinite"
            )
    there: KlDirection = "base || candidate" if sampler == "base" else "candidate || base"
    back: KlDirection = "candidate || base" if sampler == "base" else "base || candidate"
    named = (
        (there, "exact"),
        (back, "exact"),
        (there, "k1"),
        (there, "k2"),
        (there, "k3"),
    )  # in the order of PerToken
    return DivergenceReport(
        prompt_set=prompt_set,
        sampler=sampler,
        prompts=len(continuations),
        tokens=sum(tokens),
        ended=sum(one.ended for one in continuations),
        dtypes={"base": str(base.dtype), "candidate": str(candidate.dtype), "softmax": "float64"},
        estimates=[
            estimate(direction, name, [values[n] for values in found])
            for n, (direction, name) in enumerate(named)
        ],
    )


def estimate(direction: KlDirection, estimator: str, by_prompt: Sequence[Vector]) -> KlEstimate:
    """Token- and prompt-weighted means of per-token values, with the error over prompts.

    Args:
        direction: what is estimated.
        estimator: exact, k1, k2 or k3.
        by_prompt: nats at each token, one array per continuation.
    """
    kept = [values for values in by_prompt if len(values)]
    sums, counts = np.array([v.sum() for v in kept]), np.array([len(v) for v in kept])
    mean, number = float(sums.sum() / counts.sum()), len(kept)
    squares = float(np.sum((sums - mean * counts) ** 2))
    error = (number / (number - 1) * squares) ** 0.5 / counts.sum() if number > 1 else None
    return KlEstimate(
        direction=direction,
        estimator=estimator,
        per_token=mean,
        per_token_error=error,
        per_prompt=float(np.mean(sums / counts)),
        per_sequence=float(np.mean(sums)),
    )
