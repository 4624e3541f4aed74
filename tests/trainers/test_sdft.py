"""Self-distillation: what the teacher reads, what the student reads, and the divergence."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from fixtures.trainer_cases import job
from fixtures.trainer_oracle import log_of
from retainbench.harness.contracts.jobs import weights
from retainbench.harness.contracts.method import KilledError
from retainbench.harness.models import loading
from retainbench.harness.tasks.rendering.encoding import encode
from retainbench.trainers import sdft
from retainbench.trainers._gradient import trl_online
from retainbench.trainers._gradient.moving_average import average_of
from retainbench.trainers._shared import model as _model
from retainbench.trainers._shared.data import item_at
from retainbench.trainers._shared.trajectory import Trajectory

SMALL = {"batch_size": 4, "num_generations": 4}


class Reading:
    """Token ids that each embedding was given, and whether gradients were being recorded."""

    def __init__(self) -> None:
        self.rows: list[tuple[int, bool, torch.Tensor]] = []


@contextmanager
def reading() -> Iterator[Reading]:
    seen = Reading()

    def embed(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        if isinstance(module, torch.nn.Embedding):
            seen.rows.append((id(module), torch.is_grad_enabled(), inputs[0].clone()))

    hook = torch.nn.modules.module.register_module_forward_pre_hook(embed)  # type: ignore[arg-type]
    try:
        yield seen
    finally:
        hook.remove()


@pytest.mark.parametrize("adaptation", ["full", "lora"])
@pytest.mark.parametrize("teacher", ["base", "live", "ema"])
def test_empty_demonstration_gives_no_loss(
    tiny_base: Path, tmp_path: Path, adaptation: str, teacher: str
) -> None:
    """T-SDFT-1: teacher and student are then the same; float32 rounding of equal forwards."""
    losses = []
    for name, demonstration in (("empty", lambda *_: ""), ("shown", sdft.solved_item)):
        chosen = job(
            tiny_base,
            tmp_path / name,
            "sdft",
            steps=1,
            adaptation=adaptation,
            options=SMALL | {"teacher": teacher},
        )
        sdft.distil(chosen, demonstration)
        losses.append(log_of(chosen)[0]["loss"])
    assert losses[0] == pytest.approx(0.0, abs=1e-7)
    assert losses[1] > 1e-6


def test_student_never_reads_the_demonstration(tiny_base: Path, tmp_path: Path) -> None:
    """T-SDFT-2, for sampling and for training; the teacher reads it in every row."""
    chosen = job(tiny_base, tmp_path, "sdft", steps=2)
    tokenizer = loading.load(tiny_base).tokenizer
    with reading() as seen:
        sdft.train(chosen)
    students = {module for module, recording, _ in seen.rows if recording}
    assert len(students) == 1
    texts = {
        role: [
            text
            for module, _, ids in seen.rows
            if (module in students) == (role == "student")
            for text in tokenizer.batch_decode(ids)
            if "Question" in text  # loading a model tries it on another text
        ]
        for role in ("student", "teacher")
    }
    shown = [sdft.solved_item(chosen.target, item) for item in chosen.target.train]
    assert texts["student"]
    assert not [t for t in texts["student"] if any(d in t for d in shown)]
    assert max(t.count("Question") for t in texts["student"]) == 1
    assert len(texts["teacher"]) == 2 * chosen.options.batch_size
    assert all(any(d in t for d in shown) for t in texts["teacher"])


@pytest.mark.parametrize(
    ("distillation", "alpha", "skipped"),
    [("full_logits", 0.5, 0), ("topk_logits", 0.5, 0), ("full_logits", 1.0, 2)],
)
def test_first_loss_is_the_divergence(
    tiny_base: Path, tmp_path: Path, distillation: str, alpha: float, skipped: int
) -> None:
    """Mean over the completions of the mean over tokens of D, row by row; the last case is the
    paper's reverse KL(student || teacher) without the first two tokens."""
    loaded = loading.load(tiny_base)
    with torch.no_grad():
        loaded.model.lm_head.weight.mul_(50)  # probabilities far from uniform: losses near 0.1
    loading.save(loaded, tmp_path / "sharp")
    options = SMALL | {"distillation": distillation, "topk": 5, "alpha": alpha}
    options |= {"skipped_tokens": skipped}
    chosen = job(tmp_path / "sharp", tmp_path / "run", "sdft", steps=1, options=options)
    policy = _model.load(chosen)
    item = item_at(chosen.target.train, chosen.seed, 0)
    prompt = chosen.target.prompt(item)
    ids = encode(policy.tokenizer, [prompt])[0]
    shown = encode(policy.tokenizer, [sdft.solved_item(chosen.target, item) + prompt])[0]
    sampling = trl_online.rollouts(chosen, policy, Trajectory(chosen, policy))
    losses = []
    for completion in sampling.generate([ids] * 4):
        p = distribution(policy.model, ids, completion)
        q = distribution(policy.model, shown, completion)
        if distillation == "topk_logits":
            kept = p.topk(5).indices
            p, q = (x.gather(-1, kept) for x in (p, q))
            p, q = (x / x.sum(-1, keepdim=True) for x in (p, q))
        m = q if alpha == 1.0 else (p + q) / 2
        parts = (p * (p / m).log() + q * (q / m).log()).sum(-1)[skipped:]
        losses.append(float(parts.mean() / (1 if alpha == 1.0 else 2)))
    sdft.train(chosen)
    assert log_of(chosen)[0]["loss"] == pytest.approx(sum(losses) / 4, rel=1e-3)


def distribution(model: torch.nn.Module, prompt: list[int], completion: list[int]) -> torch.Tensor:
    """Next-token probabilities at the completion's places, [T, V], in float64."""
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([prompt + completion]), use_cache=False).logits
    return logits[0, len(prompt) - 1 : -1].double().softmax(-1)


PAPER = {"teacher": "ema", "distillation": "full_logits", "alpha": 1.0, "num_generations": 1}


@pytest.mark.parametrize("adaptation", ["full", "lora"])
def test_moving_average_teaches_and_resumes(
    tiny_base: Path, tmp_path: Path, adaptation: str
) -> None:
    """A rate of 1 is the student itself, a tiny one the start: between them the teacher moves."""
    ends = {}
    for name, options in (
        ("whole", PAPER | {"teacher_rate": 0.5}),
        ("student", PAPER | {"teacher_rate": 1.0}),
        ("live", PAPER | {"teacher": "live"}),
        ("start", PAPER | {"teacher": "base"}),
    ):
        chosen = job(tiny_base, tmp_path / name, "sdft", adaptation=adaptation, options=options)
        sdft.train(chosen)
        ends[name] = weights(chosen.out / "checkpoints/s0-1.0000")
    assert ends["student"] == ends["live"]
    assert len({str(end) for end in ends.values()}) == 3

    def die(share: float, _metrics: dict[str, float]) -> None:
        if share >= 0.75:
            raise KilledError

    options = PAPER | {"teacher_rate": 0.5}
    cut = job(tiny_base, tmp_path / "cut", "sdft", adaptation=adaptation, options=options)
    with pytest.raises(KilledError):
        sdft.train(dataclasses.replace(cut, progress=die))
    sdft.train(cut)
    assert weights(cut.out / "checkpoints/s0-1.0000") == ends["whole"]


def test_average_follows_by_its_rate(tiny_base: Path) -> None:
    """After two steps of a fixed student: 1 - (1 - rate)^2 of the way."""
    copy, student = loading.load(tiny_base).model, loading.load(tiny_base).model
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(1.0)
    start = {name: value.clone() for name, value in copy.state_dict().items()}
    average = average_of(copy, student, 0.25)
    average.step()
    average.step()
    for name, value in copy.named_parameters():
        torch.testing.assert_close(value, start[name] + 1 - 0.75**2)
    assert not any(parameter.requires_grad for parameter in copy.parameters())
