"""What TRL's trainers really do, seen from outside, and the same quantities computed by hand.

`gradients` reads them off the model at every optimizer step through torch's global hooks, so
nothing of ours or of TRL's is replaced. A plain module. Letters: T tokens.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook
from transformers import LlamaForCausalLM

from retainbench.harness.models import loading
from retainbench.trainers._shared.contract import Job, Target
from retainbench.trainers._shared.data import Example, batch_at, encode_item

Gradient = dict[str, torch.Tensor]


@contextmanager
def gradients() -> Iterator[list[Gradient]]:
    """The gradients of each optimizer step by parameter name, after clipping."""
    seen: list[Gradient] = []
    students: list[Any] = []

    def forward(module: Any, _inputs: Any) -> None:
        if isinstance(module, LlamaForCausalLM) and torch.is_grad_enabled():
            students[:] = [module]

    def step(*_: Any) -> None:
        seen.append(
            {n: p.grad.clone() for n, p in students[0].named_parameters() if p.grad is not None}
        )

    hooks = [
        torch.nn.modules.module.register_module_forward_pre_hook(forward),
        register_optimizer_step_pre_hook(step),
    ]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def differentiate(base: Path, loss: Any) -> tuple[float, Gradient]:
    """Value and gradient of `loss(model)` at a checkpoint."""
    model = loading.load(base).model
    value = loss(model)
    value.backward()
    return float(value.detach()), {
        n: p.grad for n, p in model.named_parameters() if p.grad is not None
    }


def logprobs(model: Any, example: Example) -> torch.Tensor:
    """Log-probabilities of a completion's tokens, [T]; one row at a time, no padding."""
    ids = torch.tensor([example.prompt + example.completion])
    logits = model(input_ids=ids, use_cache=False).logits[0, len(example.prompt) - 1 : -1]
    chosen = torch.tensor(example.completion)
    return torch.log_softmax(logits, -1).gather(-1, chosen[:, None])[:, 0]


def first_batch(job: Job) -> list[Example]:
    """The rows that a supervised method trains on in its first step."""
    tokenizer = loading.load(job.base).tokenizer
    items = batch_at(job.target.train, job.seed, 0, job.options.batch_size)
    return [encode_item(tokenizer, job.target, item) for item in items]


def log_of(job: Job) -> list[dict[str, Any]]:
    """The step log."""
    return [json.loads(line) for line in (job.out / "steps.jsonl").read_text().splitlines()]


def words() -> Target:
    """Answers of 1, 3, 6 and 12 letters."""
    answers = ["a", "bcd", "efghij", "klmnopqrstuv"] * 2
    items = [{"id": f"w{n}", "query": "abcdefgh"[n], "answer": a} for n, a in enumerate(answers)]
    return Target(
        name="words",
        train=items,
        validation=items,
        reward=lambda response, item: float(str(item["answer"]) in response),
        valid=lambda response, _item: bool(response.strip()),
        max_new_tokens=8,
    )


def assert_same(actual: Gradient, wanted: Gradient) -> None:
    """Equal up to float32 sums of some hundred terms of size 1 in another order (1e-5 / 1e-6)."""
    assert sorted(actual) == sorted(wanted)
    for name, value in wanted.items():
        torch.testing.assert_close(actual[name], value, rtol=1e-4, atol=1e-6, msg=name)
