"""Anchors: two pulls towards the base that any method can add.

`weights` is anchored weight decay (arXiv:2605.30148): after each step, with learning rate alpha,

    l2   theta <- theta_0 + (1 - alpha lambda) (theta - theta_0)
    l1   theta <- theta_0 + soft_threshold(theta - theta_0, alpha lambda)

where theta_0 are the float32 weights of the cell's base, not a running copy, and not zero.

`kl` adds beta KL(policy || base) to the loss, averaged over the trained tokens. It is the quantity
that GRPO's beta weights (METHODS 5, k3 in expectation), computed over the full vocabulary. RLOO and
PPO subtract it from the reward instead, as a log ratio on the sampled tokens; evolution strategies
from the fitness (`_evolution/fitness.py`).

`ewc` (arXiv:1612.00796) is the l2 decay with lambda F_i for coordinate i, F the diagonal of the
base's Fisher information on general text over its mean, so that lambda means the same as in
`weights`: `_gradient/general_text.py`, which also takes a `kl` with `on` on general text.

Deviations: (1) alpha lambda above 1 would overshoot the anchor; l2 then stops at theta_0.
(2) A LoRA adapter is pulled to its untrained state, where its effect is zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import torch

    from retainbench.harness.core.stages import Anchor


def decay_towards(
    parameters: Mapping[str, torch.Tensor],
    anchor: Mapping[str, torch.Tensor],
    norm: Literal["l1", "l2"],
    amount: float,
    importance: Mapping[str, torch.Tensor] | None = None,
) -> None:
    """Move parameters towards their anchor, in place.

    Args:
        parameters: by name; float32.
        anchor: the values to be pulled to, under the same names.
        norm: `l2` shrinks the distance by a factor, `l1` by a constant per coordinate.
        amount: learning rate x strength.
        importance: of every coordinate, for l2; None is 1.
    """
    import torch

    with torch.no_grad():
        for name, parameter in parameters.items():
            origin = anchor[name]
            offset = parameter - origin
            if norm == "l2" and importance is not None:
                offset *= (1.0 - amount * importance[name]).clamp(min=0.0)
            elif norm == "l2":
                offset *= max(0.0, 1.0 - amount)
            else:
                offset = torch.nn.functional.softshrink(offset, amount)
            parameter.copy_(origin + offset)


def after_step(
    anchor: Anchor | None,
    parameters: Mapping[str, torch.Tensor],
    values: Mapping[str, torch.Tensor] | None,
    learning_rate: float,
) -> None:
    """`decay_towards` where the job asks for it; `values` are `_model.reference_parameters`."""
    if anchor and anchor.kind == "weights":
        assert values is not None
        decay_towards(parameters, values, anchor.norm, learning_rate * anchor.strength)


def kl_strength(anchor: Anchor | None) -> float:
    """Coefficient of an `anchor: kl` on the method's own answers; 0 where there is none."""
    return anchor.strength if anchor and anchor.kind == "kl" and not anchor.on else 0.0


def kl_per_token(logits_BTV: torch.Tensor, reference_BTV: torch.Tensor) -> torch.Tensor:
    """Exact KL(policy || reference) at every place, in nats, float32; shape [B, T].

    Args:
        logits_BTV: the policy's logits; the gradient flows here alone.
        reference_BTV: the base's logits at the same places.
    """
    log_p_BTV = logits_BTV.float().log_softmax(-1)
    log_q_BTV = reference_BTV.detach().float().log_softmax(-1)
    return (log_p_BTV.exp() * (log_p_BTV - log_q_BTV)).sum(-1)
