"""Advantages and losses of PPO: pure functions of tensors.

Shape letters: B answers, T places that predict a token. `mask_BT` is 1 where the predicted token
belongs to the completion; prompt and padding are ignored, wherever they are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import torch


class Advantages(NamedTuple):
    """Generalised advantages and the returns that values are trained on; 0 where masked."""

    advantages_BT: torch.Tensor
    returns_BT: torch.Tensor


def token_rewards(
    rewards_B: torch.Tensor, log_ratios_BT: torch.Tensor, mask_BT: torch.Tensor, beta: float
) -> torch.Tensor:
    """-beta x log(p / p_ref) on every completion token, plus the task's reward on the last one."""
    import torch

    places_T = torch.arange(mask_BT.shape[1], device=mask_BT.device)
    last_B = (mask_BT * (places_T + 1)).argmax(1)
    made = -beta * log_ratios_BT * mask_BT
    made[torch.arange(len(made), device=made.device), last_B] += rewards_B
    return made


def gae(
    rewards_BT: torch.Tensor,
    values_BT: torch.Tensor,
    mask_BT: torch.Tensor,
    discount: float,
    gae_lambda: float,
) -> Advantages:
    """Generalised advantage estimation (arXiv:1506.02438), no value after the last token.

    Worked: rewards (0, 0, 1), values 0.5, discount 1, lambda 0.95 give (0.45125, 0.475, 0.5).
    """
    import torch

    advantages_BT = torch.zeros_like(values_BT)
    next_advantage_B = torch.zeros_like(values_BT[:, 0])
    next_value_B = torch.zeros_like(values_BT[:, 0])
    for place in reversed(range(values_BT.shape[1])):
        mask_B, value_B = mask_BT[:, place], values_BT[:, place]
        delta_B = rewards_BT[:, place] + discount * next_value_B - value_B
        advantage_B = delta_B + discount * gae_lambda * next_advantage_B
        advantages_BT[:, place] = advantage_B * mask_B
        next_advantage_B, next_value_B = advantage_B * mask_B, value_B * mask_B
    return Advantages(advantages_BT, (advantages_BT + values_BT) * mask_BT)


def whiten(values_BT: torch.Tensor, mask_BT: torch.Tensor) -> torch.Tensor:
    """Shift and scale to mean 0 and sd 1 (ddof 0) over the masked places; 0 elsewhere."""
    count = mask_BT.sum()
    mean = (values_BT * mask_BT).sum() / count
    centred_BT = (values_BT - mean) * mask_BT
    sd = (centred_BT.square().sum() / count).sqrt()
    return centred_BT / (sd + 1e-8)


class PolicyLoss(NamedTuple):
    """The clipped loss and on how many tokens the clip was in force."""

    loss: torch.Tensor
    clipped: float


def policy_loss(
    logp_BT: torch.Tensor,
    old_BT: torch.Tensor,
    advantages_BT: torch.Tensor,
    mask_BT: torch.Tensor,
    clip: float,
    trained: float,
) -> PolicyLoss:
    """-min(rho A, clip(rho, 1 - e, 1 + e) A), summed over the mask, divided by `trained`."""
    import torch

    ratio_BT = (logp_BT - old_BT).exp()
    free_BT = ratio_BT * advantages_BT
    clipped_BT = ratio_BT.clamp(1 - clip, 1 + clip) * advantages_BT
    loss = -(torch.minimum(free_BT, clipped_BT) * mask_BT).sum() / trained
    return PolicyLoss(loss, float(((clipped_BT < free_BT) * mask_BT).sum()))


def value_loss(
    values_BT: torch.Tensor,
    old_BT: torch.Tensor,
    returns_BT: torch.Tensor,
    mask_BT: torch.Tensor,
    clip: float,
    trained: float,
) -> torch.Tensor:
    """Half the squared error, the larger of free and clipped, over the mask, over `trained`."""
    import torch

    near_BT = old_BT + (values_BT - old_BT).clamp(-clip, clip)
    worse_BT = torch.maximum((values_BT - returns_BT).square(), (near_BT - returns_BT).square())
    return 0.5 * (worse_BT * mask_BT).sum() / trained


def explained_variance(
    values_BT: torch.Tensor, returns_BT: torch.Tensor, mask_BT: torch.Tensor
) -> float:
    """1 - Var(R - V) / Var(R) over the mask; 0 where the returns do not vary."""
    chosen = mask_BT.bool()
    returns, values = returns_BT[chosen], values_BT[chosen]
    spread = float(returns.var(correction=0))
    return 1.0 - float((returns - values).var(correction=0)) / spread if spread > 0 else 0.0
