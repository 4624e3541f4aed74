"""Every example of harness/README.md runs, in order, as it is printed there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from transformers import AutoModelForCausalLM, AutoTokenizer

import retainbench
from fixtures.runs import suite
from retainbench.harness.core import paths

GUIDE = (paths.PACKAGE / "harness" / "README.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^```python\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
def test_every_example_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    small = suite(Path("fruitfly"), tasks=["capitals", "dates"], trajectory=[1.0])
    small = small.model_copy(update={"noise_floor": [], "divergence_prompts": 0})
    Path("suite.yaml").write_text(
        yaml.safe_dump(small.model_dump(mode="json", exclude_none=True)), encoding="utf-8"
    )
    folder = paths.BASES / "fruitfly"
    tokenizer = AutoTokenizer.from_pretrained(folder)
    row = {"input_ids": tokenizer("1 + 1 = 2")["input_ids"]}
    names: dict[str, Any] = {
        "model": AutoModelForCausalLM.from_pretrained(folder),
        "tokenizer": tokenizer,
        "rows": [row | {"labels": row["input_ids"]}] * 8,
    }
    for example in EXAMPLES:
        exec(example, names)  # noqa: S102 - the examples are ours
    assert len(EXAMPLES) >= 5
    assert names["decided"].verdict in ("PASS", "INCONCLUSIVE"), "the model had not moved yet"
    assert list(names["watch"].table()["step"]) == [2, 4]
    assert isinstance(names["items"], pd.DataFrame)
    assert names["made"].evidence.drift.relative > 0
    assert "countdown" in capsys.readouterr().out


def test_the_guide_lists_every_public_name() -> None:
    listed = set(re.findall(r"`(\w+)\(", GUIDE))
    assert {name for name in retainbench.__all__ if name != "__version__"} <= listed
