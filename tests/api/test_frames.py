"""The Python API gives the command line's results, as DataFrames."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml
from transformers import AutoModelForCausalLM, AutoTokenizer

import retainbench
from fixtures.chats import save_chat
from fixtures.runs import suite
from retainbench.harness.cli import main as cli
from retainbench.harness.contracts.tiny_model import save_tiny
from retainbench.harness.core.errors import UsageError

TASKS = ["capitals", "capitals_free"]
POLICY = {"margin": 0.05, "minimum_items": 50}


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another model with the base's tokenizer."""
    folder = tmp_path_factory.mktemp("candidates") / "other"
    save_tiny(folder, seed=1)
    return folder


def loaded(folder: Path) -> tuple[AutoModelForCausalLM, AutoTokenizer]:
    return AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)


def test_every_public_name_is_found() -> None:
    assert set(retainbench.__all__) <= set(dir(retainbench))
    for name in retainbench.__all__:
        assert getattr(retainbench, name)
    with pytest.raises(AttributeError, match="no attribute 'evaluat'"):
        retainbench.evaluat  # noqa: B018


def test_importing_it_loads_no_library() -> None:
    code = "import retainbench, sys; retainbench.__version__; print('\\n'.join(sys.modules))"
    names = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout.split()
    assert not {"torch", "transformers", "pandas", "numpy", "pydantic"} & set(names)


def test_judging_records_loads_no_torch() -> None:
    code = "import sys; from retainbench import compare, gate, load_records; print(*sys.modules)"
    names = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout.split()
    assert not {"torch", "transformers", "lm_eval"} & set(names)


def test_a_frame_is_what_the_command_writes(tiny_base: Path, tmp_path: Path) -> None:
    """Of a folder and of the same model in memory."""
    file = tmp_path / "records.jsonl"
    command = ["evaluate", str(tiny_base), *TASKS, "--limit", "30", "--out", str(file)]
    assert cli.run(command) == 0
    stored = retainbench.load_records(file)
    assert stored["task"].value_counts().to_dict() == dict.fromkeys(TASKS, 30)
    for model in (tiny_base, loaded(tiny_base)):
        pd.testing.assert_frame_equal(retainbench.evaluate(model, TASKS, limit=30), stored)


def test_a_model_is_asked_as_a_chat(tmp_path: Path) -> None:
    """As the command asks it, and as a suite's `format` and `scoring` do."""
    save_chat(tmp_path / "chat", "chatml")
    folder = str(tmp_path / "chat")
    plain = retainbench.evaluate(folder, "capitals", limit=4)
    asked = retainbench.evaluate(folder, "capitals", limit=4, format={"template": "chat"})
    assert list(asked["prompt_hash"]) == list(plain["prompt_hash"])
    assert list(asked["choice_logprobs"]) != list(plain["choice_logprobs"])
    words = ["evaluate", folder, "capitals", "--limit", "4", "--template", "chat", "--out"]
    assert cli.run([*words, str(tmp_path / "out.jsonl")]) == 0
    pd.testing.assert_frame_equal(retainbench.load_records(tmp_path / "out.jsonl"), asked)
    drawn = retainbench.evaluate(folder, "countdown", limit=2, scoring={"repeats": 3})
    assert list(drawn["repeat"]) == [0, 1, 2, 0, 1, 2]
    with pytest.raises(UsageError, match=r"format\.system: "):
        retainbench.evaluate(folder, "capitals", format={"template": "chat", "system": 3})


def test_a_loaded_model_is_left_as_it_was(tiny_base: Path) -> None:
    model, tokenizer = loaded(tiny_base)
    model.train()
    retainbench.evaluate((model, tokenizer), "capitals", limit=5)
    assert all(module.training for module in model.modules())
    assert all(parameter.requires_grad for parameter in model.parameters())
    for given in ({"dtype": "bfloat16"}, {"base": tiny_base}, {"device_map": "auto"}):
        with pytest.raises(UsageError, match="a loaded model keeps its base, device and dtype"):
            retainbench.evaluate((model, tokenizer), "capitals", limit=5, **given)


def test_what_would_have_no_effect_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cells: records have none"):
        retainbench.gate(base="a", candidate="b", policy={"margin": 0.05}, cells=["c"])
    with pytest.raises(UsageError, match="policy: two runs have their own"):
        retainbench.compare(tmp_path, tmp_path, policy={"margin": 0.05})


def test_frames_are_gated_as_their_files(tiny_base: Path, other: Path, tmp_path: Path) -> None:
    sides = [retainbench.evaluate(model, TASKS, limit=60) for model in (tiny_base, other)]
    files = [tmp_path / "base.jsonl", tmp_path / "candidate.jsonl"]
    for side, file in zip(sides, files, strict=True):
        side.to_json(file, orient="records", lines=True)
    rules = tmp_path / "policy.yaml"
    rules.write_text(yaml.safe_dump(POLICY))
    of_frames = retainbench.gate(base=sides[0], candidate=sides[1], policy=POLICY)
    of_files = retainbench.gate(base=files[0], candidate=files[1], policy=rules)
    assert of_frames.verdict == of_files.verdict
    columns = [name for name in of_frames.table().columns if name != "candidate"]
    pd.testing.assert_frame_equal(of_frames.table()[columns], of_files.table()[columns])
    options = ["--base-records", files[0], "--candidate-records", files[1], "--policy", rules]
    assert cli.run(["gate", *map(str, options)]) == of_files.exit_code
    changes = retainbench.compare(*sides, policy=POLICY)
    assert list(changes["drop"]) == list(of_frames.table().set_index("task").loc[TASKS, "drop"])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({}, "a run folder, or base and candidate"),
        ({"base": "a.jsonl"}, "a run folder, or base and candidate"),
        ({"base": "a.jsonl", "candidate": "b.jsonl"}, "--policy is needed"),
        ({"run": "r", "base": "a", "candidate": "b"}, "a run folder, or base and candidate"),
        ({"base": "a", "candidate": "b", "policy": {"margn": 1}}, "margn"),
        ({"base": pd.DataFrame({"task": ["dates"]}), "candidate": "b"}, "no column 'axis'"),
    ],
)
def test_what_cannot_be_gated_is_refused(arguments: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        retainbench.gate(**arguments)


def test_drift_is_what_the_command_writes(tiny_base: Path, other: Path, tmp_path: Path) -> None:
    file = tmp_path / "drift.json"
    assert cli.run(["drift", str(tiny_base), str(other), "--out", str(file)]) == 0
    found = retainbench.drift(tiny_base, loaded(other))
    assert type(found).model_validate_json(file.read_text()) == found


def test_a_run_is_what_its_folder_holds(tiny_base: Path, tmp_path: Path) -> None:
    file = tmp_path / "small.yaml"
    small = suite(tiny_base, tasks=["capitals"], items_per_task=20, trajectory=[1.0])
    small = small.model_copy(update={"noise_floor": [], "divergence_prompts": 0})
    file.write_text(yaml.safe_dump(small.model_dump(mode="json", exclude_none=True)))
    made = retainbench.run(file, tmp_path / "run")
    pd.testing.assert_frame_equal(made.table(), pd.read_csv(tmp_path / "run" / "table.csv"))
    (card,) = made.scorecards()
    records = made.records()
    end = records[records["cell"] == card.cell].drop(columns=["cell", "point"])
    stored = tmp_path / "run" / "cells" / card.cell / "points" / "s0-1.0000" / "records.jsonl"
    pd.testing.assert_frame_equal(end.reset_index(drop=True), retainbench.load_records(stored))
    assert set(records["point"]) == {"base", "s0-1.0000"}
    assert cli.run(["gate", str(tmp_path / "run")]) == retainbench.gate(tmp_path / "run").exit_code
    both = retainbench.compare(tmp_path / "run", tmp_path / "run")
    assert list(both["Recipe"]) == ["sft"]
    assert both.attrs["notes"]
    assert "<table" in made._repr_html_()


def test_a_loaded_candidate_is_certified(tiny_base: Path, tmp_path: Path) -> None:
    """Equal weights pass or stay open; the certificate is the command's."""
    file = tmp_path / "small.yaml"
    small = suite(tiny_base, tasks=["capitals"], divergence_prompts=0)
    small = small.model_copy(update={"noise_floor": [], "items_per_task": None})
    file.write_text(yaml.safe_dump(small.model_dump(mode="json", exclude_none=True)))
    made = retainbench.certify(tiny_base, loaded(tiny_base), file, tmp_path / "certificate")
    assert made.gate.verdict in ("PASS", "INCONCLUSIVE")
    assert made.evidence.candidate.name == "candidate"
    assert made.evidence.drift is not None
    assert made.evidence.drift.changed_parameters == 0
    verify = ["verify", str(tmp_path / "certificate"), "--base", str(tiny_base)]
    assert cli.run([*verify, "--allow-unsigned"]) == 0
