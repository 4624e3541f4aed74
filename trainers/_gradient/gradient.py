"""What the gradient methods share: options, learning rate, anchors, losses of our own loops.

AdamW with betas 0.9 and 0.999 and epsilon 1e-8, by TRL or (RFT, PPO) by `Stepper`; the learning
rate follows the share of the budget that is spent; gradients are clipped by their global norm.
Shape letters: B rows, T places that predict a token (see `TargetPositions`), V vocabulary.

Learning rates are a function of the share of the budget that is spent, so that every method
decays over the same resource, independent of the cost of its steps.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from pydantic import Field

from retainbench.trainers._shared import model as _model
from retainbench.trainers._shared.budget import Meter
from retainbench.trainers._shared.contract import TrainerOptions
from retainbench.trainers._shared.data import Batch, Example, collate

if TYPE_CHECKING:
    import torch


class GradientOptions(TrainerOptions):
    """Options of every gradient method (AdamW, betas 0.9 and 0.999)."""

    learning_rate: float = Field(2e-5, gt=0)
    """Peak learning rate; TRL's default for SFT. Sweep it (suite key `sweep`)."""
    batch_size: int = Field(32, ge=1)
    """Completions per optimizer step."""
    accumulation: int = Field(1, ge=1)
    """Parts that a batch is computed in; changes memory, not the gradient."""
    schedule: Literal["constant", "linear", "cosine"] = "cosine"
    """Decay of the learning rate over the share of the budget that is spent."""
    warmup: float = Field(0.05, ge=0, lt=1)
    """Share of the budget over which the learning rate rises from 0; Adam's first step would move
    every weight by the full rate."""
    weight_decay: float = Field(0.0, ge=0)
    """Towards zero, as in AdamW; distinct from `anchor: weights`."""
    max_grad_norm: float = Field(1.0, gt=0)
    """Clip of the global gradient norm (arXiv:2508.05629 uses 1.0)."""


def set_rate(
    optimizer: torch.optim.Optimizer, options: GradientOptions, share: float, full: float = 1.0
) -> float:
    """Set and return the learning rate at a share of the budget, for a batch that is so full."""
    rate = full * options.learning_rate * factor(options.schedule, options.warmup, share)
    for group in optimizer.param_groups:
        group["lr"] = rate
    return rate


class Stepper(NamedTuple):
    """An optimizer with its options."""

    optimizer: torch.optim.Optimizer
    parameters: list[torch.nn.Parameter]
    options: GradientOptions

    def step(self, share: float, full: float = 1.0) -> tuple[float, float]:
        """Clip, update and clear the gradients; returns the gradient norm and the rate used.

        Args:
            share: of the budget that is spent.
            full: how full the batch is. The rate is in proportion, so that a row of a smaller
                batch moves the weights as far as any other row.
        """
        import torch

        rate = set_rate(self.optimizer, self.options, share, full)
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, self.options.max_grad_norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return float(norm), rate


def stepper(policy: _model.PolicyModel, options: GradientOptions) -> Stepper:
    """AdamW over the parameters that the method may move."""
    import torch

    parameters = list(_model.trainable_parameters(policy.model).values())
    optimizer = torch.optim.AdamW(
        parameters, lr=options.learning_rate, weight_decay=options.weight_decay
    )
    return Stepper(optimizer, parameters, options)


def restore(optimizer: torch.optim.Optimizer, state: Any) -> None:
    """Restore `optimizer.state_dict()["state"]`."""
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})


class TargetPositions(NamedTuple):
    """The targets of a batch at every place, from the end of the shortest prompt on.

    Earlier places predict prompt tokens only; leaving them out saves their logits, which cost more
    than the rest of a small model.
    """

    first: int
    """Column of the batch that predicts place 0."""
    targets_BT: torch.Tensor
    mask_BT: torch.Tensor
    """1 where the predicted token belongs to the completion."""
    tokens: int
    """Tokens in the batch, prompts included, padding left out."""


def first_place(examples: Sequence[Example]) -> int:
    """The earliest column that predicts a completion token."""
    return min(len(example.prompt) for example in examples) - 1


def batch_of(
    examples: Sequence[Example], pad: int, device: str, first: int | None = None
) -> tuple[Batch, TargetPositions]:
    """Collate on a device, with targets shifted to the places that predict them.

    Args:
        first: as in `TargetPositions`; None takes `first_place` of the examples.
    """
    batch = Batch(*(part.to(device) for part in collate(examples, pad)))
    first = first_place(examples) if first is None else first
    places = TargetPositions(
        first=first,
        targets_BT=batch.input_ids_BT[:, first + 1 :],
        mask_BT=batch.completion_mask_BT[:, first + 1 :].float(),
        tokens=sum(len(e.prompt) + len(e.completion) for e in examples),
    )
    return batch, places


def placed(inputs: dict[str, Any]) -> tuple[Batch, TargetPositions]:
    """Rows that TRL has collated; -100 in `labels` is not trained on."""
    ids_BT, attention_BT, labels_BT = (
        inputs[name] for name in ("input_ids", "attention_mask", "labels")
    )
    trained_BT = (labels_BT != -100).long()
    first = int(trained_BT.any(0).nonzero()[0]) - 1
    places = TargetPositions(
        first=first,
        targets_BT=ids_BT[:, first + 1 :],
        mask_BT=trained_BT[:, first + 1 :].float(),
        tokens=int(attention_BT.sum()),
    )
    return Batch(ids_BT, attention_BT, trained_BT), places


def logits(model: Any, batch: Batch, places: TargetPositions) -> torch.Tensor:
    """Float32 logits at the places, [B, T, V]."""
    made: torch.Tensor = model(
        input_ids=batch.input_ids_BT,
        attention_mask=batch.attention_mask_BT,
        use_cache=False,
        logits_to_keep=batch.input_ids_BT.shape[1] - places.first,
    ).logits
    return made[:, :-1].float()


def token_logprobs(logits_BTV: torch.Tensor, targets_BT: torch.Tensor) -> torch.Tensor:
    """Log-probability of each target, [B, T]."""
    return logits_BTV.log_softmax(-1).gather(-1, targets_BT.unsqueeze(-1)).squeeze(-1)


def token_loss(
    logits_BTV: torch.Tensor,
    places: TargetPositions,
    objective: Literal["nll", "dft"],
    trained: int,
) -> tuple[torch.Tensor, dict[str, float]]:
    """Sum of the completion tokens' losses over `trained`, the tokens of the whole batch."""
    logp_BT = token_logprobs(logits_BTV, places.targets_BT)
    nll = -(logp_BT * places.mask_BT).sum() / trained
    if objective == "nll":
        return nll, {"loss": float(nll.detach()), "nll": float(nll.detach())}
    loss = -(logp_BT.detach().exp() * logp_BT * places.mask_BT).sum() / trained
    return loss, {"loss": float(loss.detach()), "nll": float(nll.detach())}


def reference_logits(
    reference: Any,
    batch: Batch,
    places: TargetPositions,
    meter: Meter,
    parameters: int | None = None,
) -> torch.Tensor:
    """Another model's logits at the places of a batch, without gradient; charges the meter.

    Args:
        parameters: of the model, where it is not of the policy's size.
    """
    import torch

    with torch.no_grad():
        made = logits(reference, batch, places)
    meter.forward(places.tokens, parameters)
    return made


def factor(schedule: Literal["constant", "linear", "cosine"], warmup: float, share: float) -> float:
    """Multiplier of the peak learning rate at a share of the budget in [0, 1].

    Linear warm-up over the first `warmup` of the budget, then constant, or decay to 0 at the end.

    >>> factor("constant", 0.0, 0.7)
    1.0
    >>> factor("linear", 0.0, 0.25)
    0.75
    >>> round(factor("cosine", 0.2, 0.6), 6)
    0.5
    """
    if share < warmup:
        return share / warmup
    progress = min(1.0, (share - warmup) / (1.0 - warmup))
    if schedule == "linear":
        return 1.0 - progress
    if schedule == "cosine":
        return 0.5 * (1.0 + math.cos(math.pi * progress))
    return 1.0
