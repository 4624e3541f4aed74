"""A trainer of the user's own: what it is given, what is taken of it, and how it fails."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from fixtures.runs import suite
from fixtures.trainer_cases import job
from fixtures.waiting import until
from retainbench.harness.cli import main as cli
from retainbench.harness.contracts.jobs import weights
from retainbench.harness.core.files import locks
from retainbench.harness.core.files.atomic import alive
from retainbench.harness.core.files.storage import read_json, read_jsonl
from retainbench.harness.core.records import CheckpointRecord, ItemRecord
from retainbench.harness.core.scorecards import Scorecard
from retainbench.harness.suites import methods
from retainbench.trainers._shared.contract import Job, TrainingError

COPY = """
import json, os, pathlib, shutil
names = ("DATA", "CHAT", "OUT", "BASE", "JOB", "SEED", "DEVICE")
given = {name: os.environ["RETAINBENCH_" + name] for name in names}
out = pathlib.Path(given["OUT"])
for step in STEPS:
    shutil.copytree(given["BASE"], out / f"checkpoint-{step}")
    (out / f"checkpoint-{step}" / "optimizer.pt").write_bytes(b"never opened")
row = json.loads((pathlib.Path(given["DATA"]) / "train.jsonl").read_text().splitlines()[0])
turns = json.loads((pathlib.Path(given["CHAT"]) / "train.jsonl").read_text().splitlines()[0])
job = json.loads(pathlib.Path(given["JOB"]).read_text())
print(json.dumps({"row": row, "turns": turns, "job": job}))
"""
TRANSFORMERS = """
import sys
from datasets import load_dataset
from transformers import (AutoModelForCausalLM, AutoTokenizer, DataCollatorForLanguageModeling,
                          Trainer, TrainingArguments)
base, data, out, seed = sys.argv[1:]
tokenizer = AutoTokenizer.from_pretrained(base)
rows = load_dataset(data, split="train").map(
    lambda row: tokenizer(row["prompt"] + row["completion"]),
    remove_columns=["prompt", "completion"],
)
arguments = TrainingArguments(out, max_steps=4, save_steps=2, per_device_train_batch_size=4,
                              learning_rate=1e-3, seed=int(seed), report_to="none", use_cpu=True)
trainer = Trainer(AutoModelForCausalLM.from_pretrained(base), arguments, train_dataset=rows,
                  data_collator=DataCollatorForLanguageModeling(tokenizer, mlm=False),
                  processing_class=tokenizer)
trainer.train()
open(out + "/ledger.json", "w").write('{"steps": 4, "samples": 16, "flops": 1e9}')
"""


def command(base: Path, out: Path, code: str, *words: str, **changes: Any) -> Job:
    options = {"command": [sys.executable, "-c", code, *words]} | changes
    return job(base, out, methods.OUTSIDE, options=options)


def train(chosen: Job) -> Any:
    return methods.load(methods.OUTSIDE).train(chosen)


def test_what_the_command_is_given(tiny_base: Path, tmp_path: Path) -> None:
    """Rows to train on in two forms, the job, and no test item; of its output models only."""
    code = COPY.replace("STEPS", "(3, 4)")
    chosen = command(tiny_base, tmp_path, code, "{seed}", "{unknown}")
    outcome = train(chosen)
    shown = json.loads((tmp_path / "command-0.log").read_text())
    assert shown["row"] == {"prompt": "Question: letter a\nAnswer:", "completion": " a"}
    turns = [(turn["role"], turn["content"]) for turn in shown["turns"]["messages"]]
    assert turns == [("user", "Question: letter a\nAnswer:"), ("assistant", "a")]
    assert shown["job"]["budget"] == {"unit": "steps", "amount": 4.0}
    assert shown["job"]["points"] == [0.0, 0.5, 1.0]
    ends = tmp_path / "checkpoints"
    assert sorted(path.name for path in ends.glob("*.json")) == [
        "s0-0.0000.json",
        "s0-0.5000.json",  # step 3 of 4 has reached the half
        "s0-1.0000.json",
    ]
    assert not list(ends.rglob("*.pt"))
    assert weights(ends / "s0-1.0000") == weights(tiny_base)
    assert outcome.metrics == {"metered": 0.0}
    assert outcome.parameters == outcome.trainable > 0


def test_a_point_that_no_checkpoint_reached_is_missing(tiny_base: Path, tmp_path: Path) -> None:
    train(command(tiny_base, tmp_path, COPY.replace("STEPS", "(1, 4)")))
    kept = {path.name for path in (tmp_path / "checkpoints").glob("*.json")}
    assert kept == {"s0-0.0000.json", "s0-1.0000.json"}


def test_no_budget_is_the_base(tiny_base: Path, tmp_path: Path) -> None:
    chosen = job(tiny_base, tmp_path, methods.OUTSIDE, steps=0, options={"command": ["false"]})
    train(chosen)
    assert weights(tmp_path / "checkpoints" / "s0-1.0000") == weights(tiny_base)


LEDGER = COPY.replace("STEPS", "(4,)") + '(out / "ledger.json").write_text(%r)\n'
LINK = (
    COPY.replace("STEPS", "(4,)")
    + '(out / "checkpoint-4" / "model.safetensors").write_bytes(b"not weights")\n'
)


@pytest.mark.parametrize(
    ("code", "changes", "reason"),
    [
        ("print('no data'); raise SystemExit(3)", {}, "exit code 3: no data; its output is in"),
        ("import time; time.sleep(60)", {"seconds": 0.5}, "took more than 0.5 s"),
        ("pass", {}, "left no checkpoint"),
        (LINK, {}, "cannot be scored: .*model.safetensors"),
        (LEDGER % "[]", {}, "ledger.json of the command"),
        (LEDGER % '{"steps": "many"}', {}, "ledger.json of the command"),
        ("", {"command": ["no-such-program"]}, "cannot start 'no-such-program'"),
    ],
)
def test_a_failure_is_the_reason_of_the_cell(
    tiny_base: Path, tmp_path: Path, code: str, changes: dict[str, Any], reason: str
) -> None:
    with pytest.raises(TrainingError, match=reason):
        train(command(tiny_base, tmp_path, code, **changes))
    assert (tmp_path / "command-0.log").exists()
    assert not list(tmp_path.glob("checkpoints/s0-1.0000*"))


def test_what_it_started_is_ended_with_it(tiny_base: Path, tmp_path: Path) -> None:
    child = "print(subprocess.Popen(['sleep', '600']).pid, flush=True)"
    code = f"import subprocess; {child}; raise SystemExit(3)"
    with pytest.raises(TrainingError, match="exit code 3"):
        train(command(tiny_base, tmp_path, code))
    left = int((tmp_path / "command-0.log").read_text())
    until(lambda: not alive(left))


RUN = """
import pathlib, sys
from types import SimpleNamespace
from retainbench.harness.core.files import locks
from retainbench.trainers._shared import command

folder = pathlib.Path(sys.argv[1])
words = [sys.executable, "-c", "import os, time; print(os.getpid(), flush=True); time.sleep(600)"]
options = SimpleNamespace(command=words, seconds=600)
places = command.CommandPaths(*[folder] * 5)
with locks.growing(folder):
    command.run(SimpleNamespace(options=options, seed=0, device="cpu"), places, folder / "log")
"""


def test_it_ends_with_a_killed_run(tmp_path: Path) -> None:
    """Else the next run would start it a second time, next to the first."""
    log = tmp_path / "log"
    with subprocess.Popen([sys.executable, "-c", RUN, tmp_path]) as run:
        until(lambda: log.exists() and log.read_text().endswith("\n"))
        run.kill()
    with locks.growing(tmp_path):
        assert not alive(int(log.read_text()))


def test_its_own_ledger_is_the_cost(tiny_base: Path, tmp_path: Path) -> None:
    code = LEDGER % '{"steps": 40, "flops": 1e9}'
    assert train(command(tiny_base, tmp_path, code)).metrics == {"metered": 1.0}
    ledger = read_json(tmp_path / "checkpoints" / "s0-1.0000.json", CheckpointRecord).ledger
    assert (ledger.steps, ledger.flops) == (40, 1e9)


def trl(out: str) -> list[str]:
    """`trl sft`, by the interpreter of the tests."""
    program = "import sys; from trl.cli import main; sys.argv[0] = 'trl'; main()"
    words = "sft --model_name_or_path {base} --dataset_name {data} --seed {seed}"
    limits = "--max_steps 4 --save_steps 2 --per_device_train_batch_size 4 --learning_rate 1e-3"
    quiet = f"--use_cpu True --bf16 False --report_to none --output_dir {out}"
    return [sys.executable, "-c", program, *f"{words} {limits} {quiet}".split()]


def test_a_suite_compares_outside_trainers_with_ours(tiny_base: Path, tmp_path: Path) -> None:
    """`trl sft` without a ledger, a plain transformers script with one, and our sft."""
    script = tmp_path / "train.py"
    script.write_text(TRANSFORMERS)
    words = [sys.executable, str(script), "{base}", "{data}", "{out}", "{seed}"]
    recipes = {
        "sft": {"method": "sft", "options": {"learning_rate": 1e-3, "batch_size": 4}},
        "trl": {"method": "command", "options": {"command": trl("{out}")}},
        "script": {"method": "command", "options": {"command": words}},
        "broken": {"method": "command", "options": {"command": ["false"]}},
    }
    small = suite(
        tiny_base,
        tasks=["capitals"],
        items_per_task=20,
        recipes=recipes,
        budget={"unit": "steps", "amount": 4},
    )
    small = small.model_copy(update={"noise_floor": []})
    file = tmp_path / "small.yaml"
    file.write_text(yaml.safe_dump(small.model_dump(mode="json", exclude_none=True)))
    run = tmp_path / "run"
    assert cli.run(["run", str(file), "--out", str(run), "--quiet"]) == 0
    cards = {card.recipe: card for card in read_jsonl(run / "scorecards.jsonl", Scorecard)}
    assert cards["broken"].status == "failed"
    assert "false ended with exit code 1" in (cards["broken"].reason or "")
    for name, metered in (("trl", False), ("script", True)):
        card = cards[name]
        assert (card.status, card.metered) == ("done", metered)
        assert [point.fraction for point in card.points] == [0.5, 1.0]
        drifts = [point.drift.relative for point in card.points if point.drift]
        assert 0 < drifts[0] < drifts[1]
        records = run / "cells" / card.cell / "points" / "s0-1.0000" / "records.jsonl"
        assert {record.task for record in read_jsonl(records, ItemRecord)} == {
            "countdown",
            "capitals",
        }
        assert list((run / "cells" / card.cell).glob("command-0.log"))
    table = (run / "table.md").read_text()
    assert "a command of the user's trained script, trl" in table
    shown = [line for line in table.splitlines() if line.startswith("| trl ")]
    assert [line for line in shown if "not metered" in line]
