"""A policy with a value head: one forward pass and one update of both, and their state.

The head (hidden layer of the model's width, tanh) reads the policy's last hidden states, sends no
gradient back and computes in float32. It starts at value 0, has a constant learning rate of its
own and is not saved with checkpoints. Method: trainers/ppo.py.

Letters: B answers, T places that predict a token, V vocabulary, H width of the model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from retainbench.trainers._shared.contract import Job

if TYPE_CHECKING:
    import torch

    from retainbench.trainers._gradient.gradient import TargetPositions
    from retainbench.trainers._shared.budget import Meter
    from retainbench.trainers._shared.data import Batch
    from retainbench.trainers._shared.model import PolicyModel


class ActorCriticOutput(NamedTuple):
    """What policy and value head compute for a batch."""

    logp_BT: torch.Tensor
    """Log-probability of each token under the distribution that answers are sampled from."""
    values_BT: torch.Tensor


class ActorCritic:
    """The models and optimizers that an update needs and changes.

    Args:
        job: with the options `temperature` and `value_learning_rate`, and those of every gradient
            method.
        seed: of the head's first layer.
    """

    def __init__(self, job: Job, policy: PolicyModel, meter: Meter, seed: int) -> None:
        import torch

        from retainbench.trainers._gradient import gradient

        self.job, self.policy, self.meter = job, policy, meter
        self.head = value_head(policy.model.config.get_text_config().hidden_size, seed)
        self.head.to(job.device)
        rate = job.options.value_learning_rate
        self._head_optimizer = torch.optim.AdamW(self.head.parameters(), lr=rate, weight_decay=0.0)
        self._stepper = gradient.stepper(policy, job.options)

    @property
    def padding(self) -> int:
        """Token id that fills short rows."""
        return self.policy.tokenizer.pad_token_id or 0

    def forward(self, batch: Batch, places: TargetPositions) -> ActorCriticOutput:
        """One forward pass of policy and value head; charges nothing."""
        from retainbench.trainers._gradient.gradient import token_logprobs
        from retainbench.trainers._shared.rollout import autocast

        with autocast(self.job):
            made = self.policy.model(
                input_ids=batch.input_ids_BT,
                attention_mask=batch.attention_mask_BT,
                use_cache=False,
                output_hidden_states=True,
                logits_to_keep=batch.input_ids_BT.shape[1] - places.first,
            )
        hidden_BTH = made.hidden_states[-1][:, places.first : -1].detach().float()
        scaled_BTV = made.logits[:, :-1].float() / self.job.options.temperature
        return ActorCriticOutput(
            token_logprobs(scaled_BTV, places.targets_BT), self.head(hidden_BTH).squeeze(-1)
        )

    def step(self) -> tuple[float, float]:
        """Update both with the gradients that were accumulated.

        Returns:
            Norm of the policy's gradient, and the learning rate that was used.
        """
        norm, rate = self._stepper.step(self.meter.share)
        self._head_optimizer.step()
        self._head_optimizer.zero_grad(set_to_none=True)
        return norm, rate

    def state(self) -> dict[str, Any]:
        """State for resume, except the policy's weights."""
        return {
            "optimizer": self._stepper.optimizer.state_dict()["state"],
            "head_optimizer": self._head_optimizer.state_dict()["state"],
            "head": dict(self.head.state_dict()),
        }

    def restore(self, state: Any) -> None:
        """Restore what `state` returned."""
        from retainbench.trainers._gradient import gradient

        gradient.restore(self._stepper.optimizer, state["optimizer"])
        gradient.restore(self._head_optimizer, state["head_optimizer"])
        self.head.load_state_dict(state["head"])


def value_head(width: int, seed: int) -> torch.nn.Module:
    """A small network on hidden states of a width; its values are 0 at the start."""
    import torch

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        hidden, out = torch.nn.Linear(width, width), torch.nn.Linear(width, 1)
    torch.nn.init.zeros_(out.weight)
    torch.nn.init.zeros_(out.bias)
    return torch.nn.Sequential(hidden, torch.nn.Tanh(), out)
