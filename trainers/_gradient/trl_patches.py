"""Every use of TRL's private parts, in one place.

TRL has no public way to hand its trainers encoded rows, our own sampling and the order of our data,
and does not promise to keep what is replaced here. The replacements were tested on `TESTED`,
pyproject.toml has the upper bounds, and for a new version of TRL this file must be checked against
its source.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

TESTED = {"trl": "1.16.0", "transformers": "5.23.0"}
"""The versions that this file was tested on."""

Tokens = list[list[int]]


def on_one_device(config: Any) -> Any:
    """The config of a trainer that does not split its batches over all GPUs of the machine."""
    config._n_gpu = min(config.n_gpu, 1)
    return config


def read_in_order(trainer: Any) -> None:
    """Take the rows of the dataset one after another."""
    from torch.utils.data import SequentialSampler

    trainer._get_train_sampler = lambda *_: SequentialSampler(trainer.train_dataset)


def encoded(trainer_class: Any) -> Any:
    """The trainer for rows that arrive encoded."""

    class Encoded(trainer_class):
        def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
            return dataset

    return Encoded


def drop_reference_adapter(model: Any) -> None:
    """Delete the copy of the adapter that TRL adds to a PEFT model as its reference.

    The copy is of the adapter at hand, which on resume is a trained one, and it would be saved with
    every checkpoint. Without it TRL's reference is the model with its adapter switched off: the
    stage's starting point.
    """
    if "ref" in getattr(model, "peft_config", {}):
        model.delete_adapter("ref")


def log_of_step(trainer: Any, name: str, value: float) -> None:
    """Add a value to the step's log, where TRL shows the mean over the parts of a step."""
    trainer._metrics["train"][name].append(value)


def with_term(trainer_class: Any, term: Callable[[Any, Any], Any]) -> Any:
    """DPO's trainer with one more term in its loss.

    Args:
        term: (model, inputs of a part of the batch) -> (its value, metrics).
    """

    class WithTerm(trainer_class):
        def _compute_loss(self, model: Any, inputs: Any, return_outputs: Any) -> Any:
            loss = super()._compute_loss(model, inputs, return_outputs)
            value, metrics = term(model, inputs)
            for name, number in metrics.items():
                log_of_step(self, name, number)
            return loss + value

    return WithTerm


def is_grpo(trainer_class: Any) -> bool:
    """GRPO keeps the log-probabilities of its samples; RLOO computes them again."""
    return bool(trainer_class.__name__ == "GRPOTrainer")


def sample_by(
    trainer: Any,
    encode: Callable[[list[str]], Tokens],
    generate: Callable[[Tokens, Callable[[], Tokens]], Tokens],
) -> None:
    """Replace prompt encoding and sampling of GRPO or RLOO.

    Args:
        encode: prompts -> token ids.
        generate: (prompt ids, TRL's own sampling of them) -> completion ids.
    """
    own, grpo = trainer._generate_single_turn, is_grpo(type(trainer))

    def single_turn(prompt_ids: Tokens, *rest: Any, **named: Any) -> Any:
        results: list[Any] = []

        def by_trl() -> Tokens:
            results.append(own(prompt_ids, *rest, **named))
            tokens: Tokens = results[0][0] if grpo else results[0]
            return tokens

        tokens = generate(prompt_ids, by_trl)
        if results:
            return results[0]
        return (tokens, None) if grpo else tokens

    trainer._tokenize_prompts = lambda prompts: (encode(prompts), None, {})
    trainer._generate_single_turn = single_turn


def replace_rows(trainer: Any, rows: Callable[[list[Any]], list[Any]]) -> None:
    """Let GRPO's trainer sample and score other rows than those that it has read."""
    own = trainer._generate_and_score_completions
    trainer._generate_and_score_completions = lambda read: own(rows(read))


def without_old_pass(trainer_class: Any) -> Any:
    """RLOO's trainer without the pass that scores its samples before the update.

    With one update per rollout the samples' old log-probabilities are those of the update itself,
    detached: the ratio is 1 either way. The pass is left out where nothing else reads it, that is
    without a KL in the reward.
    """
    import torch

    class OnePass(trainer_class):
        def _get_per_token_logps_and_entropies(self, *args: Any, **named: Any) -> Any:
            if not torch.is_grad_enabled() and self.beta == 0:
                ids_BT, places = args[1], args[3]
                return ids_BT.new_zeros((len(ids_BT), places), dtype=torch.float32), None, None
            scored = super()._get_per_token_logps_and_entropies(*args, **named)
            if torch.is_grad_enabled() and self.beta == 0:
                mask_BT = self._trained_on["completion_mask"]
                self._trained_on["old_logps"] = (scored[0] * mask_BT).sum(1).detach()
            return scored

        def _compute_loss(self, model: Any, inputs: Any) -> Any:
            self._trained_on = inputs
            return super()._compute_loss(model, inputs)

    OnePass.__name__ = trainer_class.__name__
    return OnePass


def distil_by(
    trainer: Any,
    encode: Callable[[list[str]], Tokens],
    generate: Callable[[Tokens], Tokens],
) -> None:
    """Replace prompt encoding and sampling of SDFT."""
    trainer._tokenize_prompts = encode
    trainer._generate = lambda prompt_ids: (prompt_ids, generate(prompt_ids))


def part_of_step(trainer: Any) -> dict[str, Any]:
    """The tensors of the part of a batch that SDFT's trainer has just computed."""
    number = (trainer._step - 1) % trainer.args.steps_per_generation
    part: dict[str, Any] = trainer._buffered_inputs[number]
    return part


def scored_reference(trainer: Any, reference: Any, temperature: float) -> Any:
    """A frozen model with the head that TRL scores with, in the policy's precision."""
    from trl.trainer.utils import add_fused_lm_head

    add_fused_lm_head(reference, temperature=temperature)
    return trainer.accelerator.prepare_model(reference, evaluation_mode=True)


def sdft(teacher: Any) -> tuple[Any, Any]:
    """SDFT's trainer and config, without TRL's warning of what is experimental.

    Args:
        teacher: the model that teaches; None for the student as its own.
    """
    from trl.import_utils import TRLExperimentalWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TRLExperimentalWarning)
        from trl.experimental.sdft import SDFTConfig, SDFTTrainer

    class Distiller(SDFTTrainer):
        def _setup_teacher_model(self) -> None:
            self.teacher_model = self.model
            if teacher is not None:
                self.teacher_model = self.accelerator.prepare_model(teacher, evaluation_mode=True)

    return Distiller, SDFTConfig
