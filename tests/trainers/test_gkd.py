"""On-policy distillation: TRL's divergence, whose answers are read, and the teacher by name."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from fixtures.trainer_cases import job
from fixtures.trainer_oracle import assert_same, differentiate, first_batch, gradients, log_of
from retainbench.harness.core.files.storage import read_json
from retainbench.harness.core.records import CheckpointRecord
from retainbench.harness.models import checked, loading
from retainbench.trainers import gkd
from retainbench.trainers._shared.data import Example

OFF, ON = {"on_policy_share": 0.0}, {"on_policy_share": 1.0}


@pytest.mark.parametrize("beta", [0.0, 0.25, 0.5, 1.0])
def test_divergence_and_its_gradient_are_those_of_trl(
    beta: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On logits made by hand: some far apart, some equal, one with a probability of almost 0."""
    monkeypatch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")
    from trl.experimental.gkd import GKDTrainer

    draws = torch.Generator().manual_seed(0)
    student = 3 * torch.randn(2, 4, 7, generator=draws)
    teacher = 3 * torch.randn(2, 4, 7, generator=draws)
    teacher[0, 0], teacher[1, 3, 2] = student[0, 0], -40.0
    labels = torch.tensor([[1, 1, -100, 1], [-100, 1, 1, 1]])
    ours, theirs = student.clone().requires_grad_(), student.clone().requires_grad_()
    wanted = GKDTrainer.generalized_jsd_loss(theirs, teacher, labels=labels, beta=beta)
    mask = labels != -100
    found = (gkd.jensen_shannon(ours, teacher, beta) * mask).sum() / mask.sum()
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)
    gradients = [
        torch.autograd.grad(value, [at])[0] for value, at in ((found, ours), (wanted, theirs))
    ]
    torch.testing.assert_close(*gradients, rtol=1e-5, atol=1e-6)


def test_divergence_has_its_worked_values_and_compares_shared_rows() -> None:
    p, q = (torch.tensor([[values]]).log() for values in ([0.5, 0.3, 0.2], [0.4, 0.4, 0.2]))
    padded = torch.cat([q, torch.full((1, 1, 2), 5.0)], -1)
    for beta, value in ((0.0, 0.0258154), (1.0, 0.0252672), (0.5, 0.0063672)):
        assert float(gkd.jensen_shannon(p, q, beta)) == pytest.approx(value, abs=1e-7)
        assert float(gkd.jensen_shannon(p, padded, beta)) == pytest.approx(value, abs=1e-7)
        assert float(gkd.jensen_shannon(p, p, beta)) == 0.0


def divergence_of(teacher: Any, rows: list[Example]) -> Any:
    """Mean of KL(teacher || student) over completion tokens, one row at a time, no padding."""

    def whole(model: Any) -> torch.Tensor:
        parts = []
        for row in rows:
            ids = torch.tensor([row.prompt + row.completion])
            p, q = (
                one(input_ids=ids, use_cache=False).logits[0, len(row.prompt) - 1 : -1].softmax(-1)
                for one in (model, teacher)
            )
            parts.append((q.detach() * (q.detach().log() - p.log())).sum(-1))
        return torch.cat(parts).mean()

    return whole


@pytest.mark.parametrize("parts", [1, 2])
def test_first_gradient_on_reference_answers_is_the_formula(
    tiny_base: Path, tmp_path: Path, parts: int
) -> None:
    options = OFF | {"beta": 0.0, "accumulation": parts, "max_grad_norm": 1e9}
    chosen = job(tiny_base, tmp_path / "run", "gkd", steps=1, options=options)
    rows = first_batch(chosen)
    assert chosen.teacher is not None
    value, wanted = differentiate(
        tiny_base, divergence_of(loading.load(chosen.teacher).model, rows)
    )
    with gradients() as seen:
        gkd.train(chosen)
    assert_same(seen[0], wanted)
    (line,) = log_of(chosen)
    assert line["loss"] == pytest.approx(value, rel=1e-4)
    assert line["on_policy"] == 0.0


def test_share_decides_whose_answers_are_read(tiny_base: Path, tmp_path: Path) -> None:
    lines = {}
    for share in (0.0, 0.5, 1.0):
        options = {"on_policy_share": share}
        chosen = job(tiny_base, tmp_path / f"{share}", "gkd", steps=16, options=options)
        gkd.train(chosen)
        lines[share] = [line["on_policy"] for line in log_of(chosen)]
        assert all(("reward" in line) == bool(line["on_policy"]) for line in log_of(chosen))
    assert set(lines[0.0]) == {0.0}
    assert set(lines[1.0]) == {1.0}
    assert set(lines[0.5]) == {0.0, 1.0}


def test_students_own_answers_are_read_in_the_first_step(tiny_base: Path, tmp_path: Path) -> None:
    """What the teacher scores is what was sampled: prompts of the items, other completions."""
    seen: list[torch.Tensor] = []
    chosen = job(tiny_base, tmp_path / "run", "gkd", steps=1, options=ON)
    hook = torch.nn.modules.module.register_module_forward_pre_hook(
        lambda module, inputs: (
            seen.append(inputs[0].clone()) if isinstance(module, torch.nn.Embedding) else None
        )
    )
    try:
        gkd.train(chosen)
    finally:
        hook.remove()
    student, teacher = seen[-2:]
    assert torch.equal(student, teacher)
    for row, example in zip(teacher.tolist(), first_batch(chosen), strict=True):
        assert row[: len(example.prompt)] == example.prompt
        assert row[len(example.prompt) :][: len(example.completion)] != example.completion


@pytest.mark.parametrize("options", [OFF, ON], ids=["reference answers", "own answers"])
def test_student_becomes_like_its_teacher(
    tiny_base: Path, tmp_path: Path, options: dict[str, float]
) -> None:
    """Eight items over and over."""
    more = {"batch_size": 8, "learning_rate": 1e-2}
    chosen = job(tiny_base, tmp_path / "run", "gkd", steps=40, options=options | more)
    gkd.train(chosen)
    losses = [line["loss"] for line in log_of(chosen)]
    assert losses[-1] < 0.2 * losses[0]


def test_a_larger_teacher_costs_more(tiny_base: Path, tmp_path: Path) -> None:
    """Its forward tokens by its own size, the student's by the student's."""
    chosen = job(tiny_base, tmp_path / "run", "gkd", steps=2, options=OFF)
    loaded = loading.load(tiny_base)
    loaded.model.resize_token_embeddings(loaded.model.config.vocab_size + 40, mean_resizing=False)
    loading.save(loaded, tmp_path / "padded")
    spent = {}
    for name, teacher in (
        ("own size", chosen.teacher),
        ("larger", checked.check(tmp_path / "padded")),
    ):
        one = dataclasses.replace(chosen, teacher=teacher, out=tmp_path / name)
        gkd.train(one)
        spent[name] = read_json(one.out / "checkpoints/s0-1.0000.json", CheckpointRecord).ledger
    more = 2 * 40 * 32  # rows of the embedding and of the head
    tokens = spent["larger"].forward_tokens / 2
    assert tokens == spent["own size"].forward_tokens / 2 == spent["larger"].backward_tokens
    assert spent["larger"].flops - spent["own size"].flops == pytest.approx(2 * more * tokens)
