"""General text next to a method's own loss: replay, a KL on it, and the Fisher information of EWC.

    replay   L + s / (1 - s) NLL(text)                  s the share; the same as (1 - s) L + s NLL
    kl       L + beta KL(policy || base), on the tokens of the text
    ewc      F_i = mean over texts of (d log p_base(text) / d theta_i)^2, over the mean of all F_i

Every method that follows a gradient takes them: the gradient of the term is added before its
optimizer steps. A step reads s / (1 - s) x batch_size texts (for kl an eighth of batch_size), at
least one, in an order of (seed, stage); a text is cut after `LONGEST` tokens. Costs are charged to
the meter, those of the Fisher information not: it belongs to the base.

Deviations: replay (arXiv:1902.10486 mixes rows into batches) has a batch of its own here, so that
it composes with methods that sample. EWC's Fisher is the empirical one for text of a file, and with
the base's own text the true one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from retainbench.trainers._shared import model as _model
from retainbench.trainers._shared.anchor import kl_per_token
from retainbench.trainers._shared.budget import Meter
from retainbench.trainers._shared.data import Example, item_at, seed_for
from retainbench.trainers._shared.rollout import autocast

if TYPE_CHECKING:
    import torch

    from retainbench.trainers._shared.contract import Job

LONGEST = 128
"""Tokens of a text that are read."""
FISHER_TEXTS = 256
TextTerms = Callable[[int, Meter], dict[str, float]]
"""(step, meter) -> metrics; adds the gradients of the terms to the parameters'."""


def encoded(tokenizer: Any, texts: Sequence[str]) -> list[Example]:
    """The texts as rows that are trained on from their second token on."""
    ids = tokenizer(list(texts), add_special_tokens=False, truncation=True, max_length=LONGEST)
    return [Example(row[:1], row[1:]) for row in ids.input_ids if len(row) > 1]


def terms(job: Job, policy: _model.PolicyModel) -> TextTerms:
    """The terms that a job asks for; idle without any."""
    parts: list[Callable[[int, Meter], dict[str, float]]] = []
    if job.replay:
        rows = encoded(policy.tokenizer, job.texts[job.replay.source])
        weight = job.replay.share / (1.0 - job.replay.share)
        parts.append(_term(job, policy, rows, weight, None, "replay_nll"))
    if job.anchor and job.anchor.kind == "kl" and job.anchor.on:
        rows = encoded(policy.tokenizer, job.texts[job.anchor.on])
        reference = _model.reference(job)
        parts.append(_term(job, policy, rows, job.anchor.strength, reference, "text_kl"))

    def accumulate(step: int, meter: Meter) -> dict[str, float]:
        return {name: value for part in parts for name, value in part(step, meter).items()}

    return accumulate


def _term(
    job: Job,
    policy: _model.PolicyModel,
    rows: list[Example],
    weight: float,
    reference: Any,
    name: str,
) -> Callable[[int, Meter], dict[str, float]]:
    """Negative log-likelihood of the rows, or with a reference the KL to it, times the weight."""
    import torch

    from retainbench.trainers._gradient import gradient

    share = weight if reference is None else 1 / 8
    count = max(1, round(share * job.options.batch_size))
    order = seed_for(job.seed, f"{name}/{job.stage}")
    numbered = [{"row": row} for row in rows]

    def term(step: int, meter: Meter) -> dict[str, float]:
        chosen = [item_at(numbered, order, step * count + n)["row"] for n in range(count)]
        pad = policy.tokenizer.pad_token_id or 0
        batch, places = gradient.batch_of(chosen, pad, job.device)
        trained = sum(len(row.completion) for row in chosen)
        with autocast(job):
            logits_BTV = gradient.logits(policy.model, batch, places)
            if reference is None:
                value, _ = gradient.token_loss(logits_BTV, places, "nll", trained)
            else:
                base_BTV = gradient.reference_logits(reference, batch, places, meter)
                value = (kl_per_token(logits_BTV, base_BTV) * places.mask_BT).sum() / trained
        torch.autograd.backward(weight * value)
        meter.forward(places.tokens)
        meter.backward(places.tokens)
        return {name: float(value.detach())}

    return term


def fisher(job: Job, tokenizer: Any, texts: Sequence[str]) -> Mapping[str, torch.Tensor]:
    """The base's diagonal Fisher information on some texts, by parameter; its mean is 1."""
    import torch

    from retainbench.trainers._gradient import gradient

    base = _model.reference(job).requires_grad_(True)
    parameters = _model.trainable_parameters(base)
    total = {name: torch.zeros_like(value) for name, value in parameters.items()}
    for row in encoded(tokenizer, texts[:FISHER_TEXTS]):
        batch, places = gradient.batch_of([row], tokenizer.pad_token_id or 0, job.device)
        loss, _ = gradient.token_loss(gradient.logits(base, batch, places), places, "nll", 1)
        found = torch.autograd.grad(loss, list(parameters.values()))
        for value, part in zip(total.values(), found, strict=True):
            value.add_(part.square())
    size = sum(value.numel() for value in total.values())
    mean = sum(float(value.double().sum()) for value in total.values()) / size
    return {name: value / mean for name, value in total.items()}
