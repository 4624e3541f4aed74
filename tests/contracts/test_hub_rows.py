"""A target from rows of a data set on the hub, at one commit, against a hub on this machine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fixtures.hub import Hub, Repository, Shell, jsonl, serve
from retainbench.harness.contracts import check, rows
from retainbench.harness.contracts.new_target import TargetSpec, write
from retainbench.harness.core import paths
from retainbench.harness.running.training.jobs import load_target
from retainbench.harness.tasks import catalogue, pack
from retainbench.harness.tasks.rendering.answers import rule_of

COMMIT = "a" * 40


def test_rows_of_the_hub_come_at_a_pinned_commit(tmp_path: Path) -> None:
    lines = jsonl(*({"question": f"Twice {n}?", "label": 2 * n} for n in range(40)))
    hub = Hub()
    hub.datasets["o/twice"] = Repository({COMMIT: {"train.jsonl": lines}}, main=COMMIT)
    asked = ["new", "target", "twice", "--hub", "o/twice", "--reward", "numeric"]
    asked += ["--field", "query=question", "--field", "answer=label", "--out", str(tmp_path)]
    with serve(hub) as address:
        shell = Shell(address, tmp_path / "home")
        try:
            branch = shell(*asked, "--revision", "main")
            unknown = shell(*asked, "--revision", "b" * 40)
            made = shell(*asked, "--revision", COMMIT)
            checked = shell("check", tmp_path / "twice")
        finally:
            shell.close()
    assert (branch.code, "give its commit with --revision" in branch.err) == (2, True)
    assert (unknown.code, "o/twice" in unknown.err) == (2, True)
    assert made.code == 0, made.err
    assert "8 test, 4 validation, 28 training items" in made.out
    assert (checked.code, "FAIL" in checked.out) == (0, False)
    found = json.loads((tmp_path / "twice" / "provenance.json").read_text())
    assert (found["source"], found["dataset_path"], found["dataset_revision"]) == (
        "hub",
        "o/twice",
        COMMIT,
    )


SAMPLES = paths.PACKAGE.parent / "shared" / "data"
GSM8K = ["--field", "query=question", "--field", "solution=answer", "--answer", r"regex:#### (.+)"]
GSM8K += ["--prompt", "{{query}} End with #### and the number.", "--reward", "math"]


def test_gsm8k_is_trained_on_its_solutions_and_judged_by_their_last_line(tmp_path: Path) -> None:
    """As openai/gsm8k has its rows: the answer is at the end of the solution."""
    if not SAMPLES.is_dir():
        pytest.skip("needs ../shared/data")
    files = {}
    for split in ("train", "test"):
        rows = map(json.loads, (SAMPLES / f"gsm8k_{split}.jsonl").read_text().splitlines()[:60])
        files[f"main/{split}.jsonl"] = jsonl(
            *(
                {"question": r["query"], "answer": f"{r['rationale']}\n#### {r['answer']}"}
                for r in rows
            )
        )
    card = b"---\nconfigs:\n- config_name: main\n  data_files:\n"
    card += b"".join(
        b"  - {split: %s, path: main/%s.jsonl}\n" % (s, s) for s in (b"train", b"test")
    )
    hub = Hub()
    hub.datasets["o/gsm"] = Repository(
        {COMMIT: files | {"README.md": card + b"---\n"}}, main=COMMIT
    )
    asked = ["new", "target", "gsm", "--hub", "o/gsm", "--revision", COMMIT, "--config", "main"]
    with serve(hub) as address:
        shell = Shell(address, tmp_path / "home")
        try:
            made = shell(*asked, "--test-split", "test", *GSM8K, "--out", str(tmp_path))
        finally:
            shell.close()
    assert made.code == 0, made.err
    assert "60 test, 6 validation, 54 training items" in made.out
    (info,) = pack.read(tmp_path / "gsm", code=True)
    target = load_target("gsm", catalogue.OWN.adding([info]))
    item = target.train[0]
    assert target.stop == ()
    assert item["solution"].endswith(f"#### {item['answer']}")
    (completion,) = target.completions([item])
    assert completion == f" {item['solution']}"
    assert target.reward(completion, item) == 1.0
    assert target.reward(item["answer"], item) == 0.0  # without the mark there is no answer
    assert [rule for rule in check.check(info.folder) if not rule.passed] == []


def test_math_is_judged_by_what_is_boxed(tmp_path: Path) -> None:
    """As HuggingFaceH4/MATH-500 has its rows; every gold answer is read by math-verify."""
    if not SAMPLES.is_dir():
        pytest.skip("needs ../shared/data")
    lines = map(json.loads, (SAMPLES / "math500.jsonl").read_text().splitlines()[:60])
    path = tmp_path / "math.jsonl"
    path.write_bytes(
        jsonl(
            *(
                {"problem": row["query"], "solution": row["rationale"], "answer": row["answer"]}
                for row in lines
            )
        )
    )
    rule = rule_of("boxed")
    reading = rows.RowReading({"query": "problem", "solution": "solution"}, rule)
    spec = TargetSpec("math", "math", answer=rule, provenance=rows.provenance(path))
    info = write(spec, rows.split(rows.from_file(path, reading)), tmp_path / "out")
    assert [rule for rule in check.check(info.folder) if not rule.passed] == []


def test_null_is_left_out_and_an_own_answer_stays(tmp_path: Path) -> None:
    """As tables are exported: every row has every field, null where it has none."""
    row = {"id": None, "query": "2 + 2?", "answer": "4", "aliases": None, "cluster": None}
    lines = [row | {"query": f"{n} + 2?", "answer": str(n + 2), "worked": f"{n}, {n + 1}, {n + 2}"}
             for n in range(12)]  # fmt: skip
    path = tmp_path / "rows.jsonl"
    path.write_bytes(jsonl(*lines))
    found = rows.from_file(path, rows.RowReading({"solution": "worked"}, rule_of("last_line")))
    assert [one["answer"] for one in found] == [line["answer"] for line in lines]
    assert found[0]["solution"] == "0, 1, 2"
    assert (found[0]["aliases"], found[0]["cluster"]) == ([], found[0]["id"])
