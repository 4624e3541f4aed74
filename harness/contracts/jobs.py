"""Training jobs of a few steps on a tiny model, for the rules of methods."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from retainbench.harness.core.records import Ledger
from retainbench.harness.core.schema import Budget
from retainbench.harness.core.stages import Adaptation, Anchor, AnyAdapter
from retainbench.harness.models import checked, loading
from retainbench.harness.models.checked import Base
from retainbench.harness.suites import methods
from retainbench.harness.tasks.rendering.prompts import Template
from retainbench.trainers._shared.contract import Item, Job, Target

STEPS = 4
END = "s0-1.0000"
START = "s0-0.0000"
SMALL = {"full": Adaptation(), "lora": Adaptation(kind="lora", rank=2)}


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
        template=Template("Question: {{query}}\nAnswer:", " "),
    )


def job(
    base: Path,
    out: Path,
    options: Any,
    *,
    adaptation: str | AnyAdapter = "full",
    anchor: Anchor | None = None,
    budget: Budget | None = None,
    target: Target | None = None,
    seed: int = 0,
    teacher: Base | None = None,
) -> Job:
    """A job with checkpoints at 0, half and the end; STEPS updates unless there is a budget."""
    return Job(
        base=base,
        reference=base,
        target=target or letters(),
        adaptation=SMALL[adaptation] if isinstance(adaptation, str) else adaptation,
        options=options,
        anchor=anchor,
        budget=budget or Budget(unit="steps", amount=STEPS),
        spent=Ledger(),
        points=((START, 0.0), ("s0-0.5000", 0.5), (END, 1.0)),
        seed=seed,
        stage=0,
        out=out,
        teacher=teacher,
    )


def teacher_for(module: Any, base: Path, folder: Path) -> Base | None:
    """A teacher for a method that needs one: the base with noise on its weights, in `folder`."""
    import torch

    if not methods.learns_from_teacher(module):
        return None
    if not folder.exists():
        loaded = loading.load(base)
        draws = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for value in loaded.model.parameters():
                value.add_(value.std() * torch.randn(value.shape, generator=draws))
        loading.save(loaded, folder)
    return checked.check(folder)


def small_options(module: Any) -> Any:
    """The method's options with `SMALL`, its own choice for quick steps, or four rows a step."""
    model = module.Options
    usual = {"batch_size": 4} if "batch_size" in model.model_fields else {}
    chosen: Mapping[str, Any] = getattr(module, "SMALL", usual)
    return model.model_validate(dict(chosen))


def weights(folder: Path) -> dict[str, bytes]:
    """The bytes of all weight files of a checkpoint."""
    return {file.name: file.read_bytes() for file in sorted(folder.glob("*.safetensors"))}
