"""TRL's trainers under the same rules as our own loops.

TRL computes losses, gradients and optimizer steps. What makes arms comparable stays ours: the order
of the data (`stream`), the budget (tokens are counted in `training_step`, the learning rate follows
the share of the budget, training stops when it is spent), checkpoints and the step log (the
`Trajectory`), `anchor: weights`, and resume (weights and optimizer without pickle; TRL's own
checkpoints are off). The
global random generators are seeded before each step from (seed, step), and restored after it.

A trainer file maps its options to a TRL config and calls `run`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from retainbench.harness.models import seeds
from retainbench.trainers._gradient import general_text, gradient, pulls, trl_patches
from retainbench.trainers._gradient.gradient import GradientOptions
from retainbench.trainers._gradient.moving_average import MovingAverage
from retainbench.trainers._shared import collective
from retainbench.trainers._shared.contract import Job, Outcome, TrainingError
from retainbench.trainers._shared.data import seed_for
from retainbench.trainers._shared.trajectory import Trajectory

if TYPE_CHECKING:
    import torch

ENDLESS = 10**9
"""More optimizer steps than any budget allows; the meter stops the trainer."""


def stream(row: Callable[[int], dict[str, Any]], columns: list[str], start: int = 0) -> Any:
    """An endless dataset whose k-th row is `row(start + k)`, computed when it is asked for.

    TRL takes only `datasets.Dataset`, so this is a subclass: empty, with the right columns, and
    with length and access replaced. Resuming at step s means starting at row s x rows_per_step,
    without any sampler state.
    """
    from datasets import Dataset

    class EndlessDataset(Dataset):
        def __len__(self) -> int:
            return ENDLESS

        def __getitem__(self, index: int) -> dict[str, Any]:
            return row(start + index)

        def __iter__(self) -> Iterator[dict[str, Any]]:
            return (self[index] for index in range(ENDLESS))

        def __getitems__(self, indices: list[int]) -> list[dict[str, Any]]:
            return [self[index] for index in indices]

    return EndlessDataset(Dataset.from_dict({name: [] for name in columns}).data)


def config(kind: Any, job: Job, folder: str, **specific: Any) -> Any:
    """A TRL config of class `kind` with the shared arguments and the method's own.

    Raises:
        TrainingError: TRL does not train on the device.
    """
    options: GradientOptions = job.options
    if job.device not in ("cpu", "cuda", "cuda:0"):
        raise TrainingError(
            f"TRL trains on the CPU or the first GPU that it sees, not on {job.device}: set "
            "CUDA_VISIBLE_DEVICES to the GPU's number and use --device cuda"
        )
    common = {
        "output_dir": folder,
        "per_device_train_batch_size": options.batch_size // _parts(options),
        "gradient_accumulation_steps": options.accumulation,
        "learning_rate": options.learning_rate,
        "lr_scheduler_type": "constant",
        "weight_decay": options.weight_decay,
        "max_grad_norm": options.max_grad_norm,
        "max_steps": ENDLESS,
        "train_sampling_strategy": "sequential",
        "seed": seed_for(job.seed, f"trl/{job.stage}") % 2**32,
        "bf16": job.dtype == "bfloat16",
        "fp16": False,
        "use_cpu": job.device == "cpu",
        "activation_checkpointing": False,
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "save_strategy": "no",
        "report_to": list(job.report_to) or "none",
        "run_name": f"{job.out.name}-{job.stage}",
        "project": "retainbench",
        "disable_tqdm": True,
        "remove_unused_columns": False,
        "dataloader_pin_memory": False,
        "ddp_find_unused_parameters": False,
    }
    return trl_patches.on_one_device(kind(**common, **specific))


def run(
    trajectory: Trajectory,
    build: Callable[[int, str], Any],
    count: Callable[[Trajectory, dict[str, Any]], None],
    *,
    rows_per_step: int,
    average: MovingAverage | None = None,
    steps_per_rollout: int = 1,
) -> Outcome:
    """Train with a TRL trainer until the stage's budget is spent.

    Args:
        build: (first row, scratch folder) -> the TRL trainer over a `stream` from that row.
        count: charges the meter for one call of `training_step`, given its inputs.
        rows_per_step: rows of the stream that one optimizer step uses.
        average: of the policy's weights, moved after each step.
        steps_per_rollout: optimizer steps that share what was sampled for the first of them; a run
            resumes only where sampling begins.
    """
    options: GradientOptions = trajectory.job.options
    if options.batch_size % _parts(options):
        shared = f" x processes {collective.number()}" if collective.number() > 1 else ""
        raise TrainingError(
            f"batch_size {options.batch_size} is not a multiple of accumulation "
            f"{options.accumulation}{shared}"
        )
    with seeds.isolated(), tempfile.TemporaryDirectory() as scratch:
        state = trajectory.resume()
        if trajectory.running:
            trainer = build(trajectory.step * rows_per_step, scratch)
            trl_patches.drop_reference_adapter(trajectory.policy.model)
            _govern(trainer, trajectory, count, state, average, steps_per_rollout)
            trainer.train()
    return trajectory.outcome({})


def _parts(options: GradientOptions) -> int:
    """Parts that a batch is computed in, over all processes."""
    return options.accumulation * collective.number()


def _govern(
    trainer: Any,
    trajectory: Trajectory,
    count: Callable[[Trajectory, dict[str, Any]], None],
    state: dict[str, Any] | None,
    average: MovingAverage | None,
    steps_per_rollout: int,
) -> None:
    """Attach budget, schedule, anchored decay, checkpoints and resume to a TRL trainer."""
    from transformers import PrinterCallback, TrainerCallback
    from transformers.integrations import TensorBoardCallback

    job, plain_step = trajectory.job, trainer.training_step
    anchored = pulls.anchored(job, trajectory.policy)
    text_terms = general_text.terms(job, trajectory.policy)
    of_texts: dict[str, float] = {}
    reached = -1

    def resumable() -> dict[str, Any]:
        optimizer: dict[str, Any] = trainer.optimizer.state_dict()["state"]
        return {"optimizer": optimizer, "average": average.state()} if average else optimizer

    def training_step(model: Any, inputs: Any, *rest: Any) -> torch.Tensor:
        nonlocal reached
        with trajectory.meter.shared():
            loss = plain_step(model, inputs, *rest)
            count(trajectory, inputs)
        if trajectory.step != reached:  # once for all parts of a step
            reached = trajectory.step
            of_texts.update(text_terms(reached, trajectory.meter))
        return loss

    trainer.training_step = training_step

    class Governor(TrainerCallback):
        """Called by the training loop; `on_log` comes once after each optimizer step."""

        def on_train_begin(self, _args: Any, _state: Any, _control: Any, **_: Any) -> None:
            if state is not None:
                gradient.restore(trainer.optimizer, state["optimizer"] if average else state)
                if average:
                    average.restore(state["average"])

        def on_step_begin(self, _args: Any, _state: Any, _control: Any, **_: Any) -> None:
            seeds.seed_all(seed_for(job.seed, f"step/{job.stage}/{trajectory.step}"))
            gradient.set_rate(trainer.optimizer, job.options, trajectory.meter.share)

        def on_optimizer_step(self, _args: Any, _state: Any, _control: Any, **_: Any) -> None:
            anchored(trainer.optimizer.param_groups[0]["lr"])
            if average:
                average.step()

        def on_log(
            self, _args: Any, _state: Any, control: Any, logs: dict[str, Any], **_: Any
        ) -> None:
            if "train_runtime" in logs:  # the closing summary, not a step
                return
            metrics = {k: float(v) for k, v in logs.items() if isinstance(v, (int, float))}
            for counted_elsewhere in ("epoch", "num_tokens", "step_time"):
                metrics.pop(counted_elsewhere, None)
            metrics = collective.averaged(metrics | of_texts)
            between = (trajectory.step + 1) % steps_per_rollout
            trajectory.after_step(metrics, None if between else resumable)
            control.should_training_stop = not trajectory.running

    for callback in trainer.callback_handler.callbacks:
        if isinstance(callback, TensorBoardCallback) and callback.logging_dir is None:
            # By default it writes to the scratch folder, which is deleted after the run.
            callback.logging_dir = str(job.out / "tensorboard")
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(Governor())
