"""What an anchor does to a method that follows a gradient: a decay after steps, a term of its loss.

`_shared/anchor.py` has the formulas. Anchors on general text are terms of `general_text`, except
`ewc`, whose importance comes from there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from retainbench.trainers._gradient.general_text import fisher
from retainbench.trainers._gradient.gradient import TargetPositions, reference_logits
from retainbench.trainers._shared import model as _model
from retainbench.trainers._shared.anchor import decay_towards, kl_per_token, kl_strength
from retainbench.trainers._shared.budget import Meter
from retainbench.trainers._shared.data import Batch
from retainbench.trainers._shared.rollout import autocast

if TYPE_CHECKING:
    import torch

    from retainbench.trainers._shared.contract import Job


def anchored(job: Job, policy: _model.PolicyModel) -> Callable[[float], None]:
    """The job's anchor of weights as a function of the rate just used; idle without one."""
    if job.anchor is None or job.anchor.kind == "kl":
        return lambda _rate: None
    anchor = job.anchor
    parameters = _model.trainable_parameters(policy.model)
    values = _model.reference_parameters(job, policy)
    importance = fisher(job, policy.tokenizer, job.texts[anchor.on]) if anchor.on else None
    return lambda rate: decay_towards(
        parameters, values, anchor.norm, rate * anchor.strength, importance
    )


Penalty = Callable[
    [Batch, "torch.Tensor", TargetPositions, int, Meter],
    tuple["torch.Tensor | float", dict[str, float]],
]
"""(batch, logits, places, tokens trained in the step, meter) -> (term of the loss, metrics)."""


def penalty(job: Job) -> Penalty:
    """The job's `anchor: kl` as a term of a token loss; 0 where there is no such anchor."""
    strength = kl_strength(job.anchor)
    if not strength:
        return lambda *_: (0.0, {})
    reference = _model.reference(job)

    def term(
        batch: Batch, logits_BTV: torch.Tensor, places: TargetPositions, trained: int, meter: Meter
    ) -> tuple[torch.Tensor, dict[str, float]]:
        with autocast(job):
            base_BTV = reference_logits(reference, batch, places, meter)
        kl = (kl_per_token(logits_BTV, base_BTV) * places.mask_BT).sum() / trained
        return strength * kl, {"kl": float(kl.detach())}

    return term
