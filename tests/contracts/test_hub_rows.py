"""A target from rows of a data set on the hub, at one commit, against a hub on this machine."""

from __future__ import annotations

import json
from pathlib import Path

from fixtures.hub import Hub, Repository, Shell, jsonl, serve

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
