"""Jobs on the tiny model, for the tests of all trainers; a plain module."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from retainbench.harness.core.records import Ledger
from retainbench.harness.core.schema import Adaptation, Anchor, Budget, Stage
from retainbench.harness.suites import methods
from retainbench.trainers._shared.contract import Item, Job, Target

SMALL: dict[str, dict[str, Any]] = {
    "sft": {"learning_rate": 1e-3, "batch_size": 4},
    "dft": {"learning_rate": 1e-3, "batch_size": 4},
    "dpo": {"learning_rate": 1e-3, "batch_size": 4},
    "grpo": {"learning_rate": 1e-3, "batch_size": 16, "num_generations": 8},
    "rloo": {"learning_rate": 1e-3, "batch_size": 16, "num_generations": 8},
    "sdft": {"learning_rate": 1e-3, "batch_size": 8, "num_generations": 4},
    "es": {"population": 4, "sigma": 0.5, "learning_rate": 0.05, "prompts_per_step": 8},
    "ppo": {"batch_size": 128, "minibatches": 2, "learning_rate": 1e-3},
    "rft": {
        "sampling": "iterative",
        "samples_per_prompt": 64,
        "prompts_per_round": 8,
        "batch_size": 4,
        "learning_rate": 1e-3,
    },
    "eggroll": {"population": 8, "sigma": 0.5, "learning_rate": 0.05, "prompts_per_step": 8},
}
"""Options under which each method takes a step in a fraction of a second."""

ON_GPU = pytest.param(
    "cuda",
    marks=[
        pytest.mark.gpu,
        pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
    ],
)
DEVICES = ["cpu", ON_GPU]


def letters() -> Target:
    """Answer with the letter that is asked for; random models hit it now and then.

    Any answer that ends earns a little, which even greedy members of a small population differ in.
    """

    def reward(response: str, item: Item) -> float:
        return 1.0 if str(item["answer"]) in response else 0.1

    items = [
        {"id": f"t{n}", "query": f"letter {c}", "answer": c} for n, c in enumerate("abcdefghijkl")
    ]
    return Target(
        name="letters",
        train=items[:8],
        validation=items[8:],
        reward=reward,
        valid=lambda response, _item: bool(response.strip()),
        max_new_tokens=16,
    )


def job(
    base: Path,
    out: Path,
    method: str,
    *,
    steps: float = 4,
    adaptation: str = "full",
    anchor: Anchor | None = None,
    target: Target | None = None,
    seed: int = 0,
    options: dict[str, Any] | None = None,
) -> Job:
    """A job of `steps` updates with checkpoints at 0, half and the end."""
    stage = Stage(method=method, options=SMALL.get(method, {}) | (options or {}))
    return Job(
        base=base,
        reference=base,
        target=target or letters(),
        adaptation=Adaptation(kind=adaptation, rank=2),
        options=methods.options(stage),
        anchor=anchor,
        budget=Budget(unit="steps", amount=steps),
        spent=Ledger(),
        points=(("s0-0.0000", 0.0), ("s0-0.5000", 0.5), ("s0-1.0000", 1.0)),
        seed=seed,
        stage=0,
        out=out,
    )


def weights(folder: Path) -> dict[str, bytes]:
    """The bytes of all weight files of a checkpoint."""
    return {file.name: file.read_bytes() for file in sorted(folder.glob("*.safetensors"))}
