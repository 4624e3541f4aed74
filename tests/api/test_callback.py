"""A look at the live model reports what certify would find, and training does not notice it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from datasets import Dataset
from safetensors.torch import load_file
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    DataCollatorForLanguageModeling,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)
from trl import SFTConfig, SFTTrainer

import retainbench
from fixtures.runs import suite
from retainbench.harness.core.errors import UsageError
from retainbench.harness.core.files.storage import sha256_file

TEXTS = [f"{a} + {b} = {a + b}" for a in range(8) for b in range(8)]


@pytest.fixture(scope="module")
def small(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("suites") / "small.yaml"
    chosen = suite(tiny_base, tasks=["capitals", "dates"], items_per_task=20)
    file.write_text(yaml.safe_dump(chosen.model_dump(mode="json", exclude_none=True)))
    return file


def options(out: Path) -> dict[str, Any]:
    """Dropout, accumulation and a warm-up, so that modes, gradients and generators matter."""
    return {
        "output_dir": str(out),
        "max_steps": 6,
        "per_device_train_batch_size": 4,
        "gradient_accumulation_steps": 2,
        "learning_rate": 1e-2,
        "warmup_steps": 2,
        "logging_steps": 2,
        "save_steps": 3,
        "report_to": "tensorboard",
        "use_cpu": True,
        "disable_tqdm": True,
        "seed": 7,
    }


def plain(base: Path, out: Path, callbacks: list[TrainerCallback]) -> Trainer:
    tokenizer = AutoTokenizer.from_pretrained(base)
    model = AutoModelForCausalLM.from_pretrained(base, attention_dropout=0.2)
    rows = Dataset.from_list([dict(tokenizer(text)) for text in TEXTS])
    return Trainer(
        model,
        TrainingArguments(**options(out)),
        train_dataset=rows,
        data_collator=DataCollatorForLanguageModeling(tokenizer, mlm=False),
        processing_class=tokenizer,
        callbacks=callbacks,
    )


def supervised(base: Path, out: Path, callbacks: list[TrainerCallback]) -> Trainer:
    """TRL's, with a LoRA adapter that has dropout."""
    from peft import LoraConfig

    return SFTTrainer(
        AutoModelForCausalLM.from_pretrained(base),
        SFTConfig(**options(out), bf16=False),
        train_dataset=Dataset.from_list([{"text": text} for text in TEXTS]),
        processing_class=AutoTokenizer.from_pretrained(base),
        peft_config=LoraConfig(r=4, lora_dropout=0.3, target_modules="all-linear"),
        callbacks=callbacks,
    )


Build = Callable[[Path, Path, list[TrainerCallback]], Trainer]


@pytest.mark.parametrize("build", [plain, supervised])
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
def test_training_is_the_same_with_it(
    build: Build, tiny_base: Path, small: Path, tmp_path: Path
) -> None:
    """Weights, optimizer and generators of every checkpoint, to the byte."""
    watch = retainbench.RetentionCallback(tiny_base, small, every=2)
    for name, callbacks in (("with", [watch]), ("without", [])):
        build(tiny_base, tmp_path / name, callbacks).train()
    for step in (3, 6):
        folders = [tmp_path / name / f"checkpoint-{step}" for name in ("with", "without")]
        (weights,) = {path.name for path in folders[0].glob("*.safetensors")}
        for file in (weights, "optimizer.pt", "scheduler.pt", "rng_state.pth"):
            one, two = (sha256_file(folder / file) for folder in folders)
            assert one == two, f"{file} of step {step}"
    assert list(watch.table()["step"]) == [2, 4, 6]
    first, last = (load_file(tmp_path / "with" / f"checkpoint-{s}" / weights) for s in (3, 6))
    assert any(not torch.equal(first[name], last[name]) for name in first)


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
def test_what_is_logged_is_what_comparing_finds(
    tiny_base: Path, small: Path, tmp_path: Path
) -> None:
    """In the trainer's log and in TensorBoard's file; the trainer's own lines stay."""
    watch = retainbench.RetentionCallback(tiny_base, small, every=4)
    trainer = plain(tiny_base, tmp_path / "run", [watch])
    trainer.train()
    base = retainbench.evaluate(tiny_base, ["capitals", "dates"], limit=20)
    after = retainbench.evaluate(
        (trainer.model, trainer.processing_class), ["capitals", "dates"], limit=20
    )
    expected = retainbench.compare(base, after).set_index("task")
    log = trainer.state.log_history
    (row,) = [row for row in log if row["step"] == 6 and "retention/dates/drop" in row]
    for task in ("capitals", "dates"):
        for key in ("drop", "drop_low", "drop_high"):
            assert row[f"retention/{task}/{key}"] == expected.loc[task, key]
    assert [row["step"] for row in log if "loss" in row] == [2, 4, 6]
    (events,) = (tmp_path / "run").rglob("events.out*")
    assert events.read_bytes().count(b"train/retention/dates/drop_low") == 2, "steps 4 and 6"


def test_it_refuses_what_it_cannot_do(tiny_base: Path, small: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="every: 0 steps"):
        retainbench.RetentionCallback(tiny_base, small, every=0)
    watch = retainbench.RetentionCallback(tiny_base, small, every=1)
    split = TrainingArguments(str(tmp_path), report_to="none", use_cpu=True)
    split.deepspeed = "zero3.json"
    with pytest.raises(UsageError, match="FSDP or DeepSpeed"):
        watch.on_train_begin(split, None, None)
