"""`retainbench gate` on stored results: sources, files, policies, pins, exit codes, imports."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from fixtures.gate import stored_pair, suite
from retainbench.harness.core.errors import IntegrityError, UsageError
from retainbench.harness.gate.command import Sources, command
from retainbench.harness.suites.loading import load_policy

HEAVY = ("torch", "transformers", "lm_eval", "datasets", "trl", "peft", "pandas", "scipy.stats")


def test_the_command_writes_files_and_says_how_many_items_would_decide(tmp_path: Path) -> None:
    where = stored_pair(tmp_path, suite(60, {"general0": 3}))
    finished = command(
        Sources(base_records=where / "base.jsonl", candidate_records=where / "candidate.jsonl"),
        policy=where / "policy.yaml",
        out=where / "out",
        allow_inconclusive=True,
    )
    assert finished.exit_code == 0
    assert finished.lines[-1].startswith("gate: INCONCLUSIVE (1 candidate), exit 0")
    assert any("items would decide" in line for line in finished.lines)
    stored = json.loads((where / "out/gate.json").read_text())
    assert (stored["verdict"], stored["exit_code"]) == ("INCONCLUSIVE", 3)
    assert sorted(p.name for p in (where / "out").iterdir()) == [
        "comment.md",
        "gate.json",
        "junit.xml",
        "summary.md",
    ]


def test_a_pinned_digest_that_differs_is_an_integrity_failure(tmp_path: Path) -> None:
    where = stored_pair(tmp_path, suite(60))
    sources = Sources(
        base_records=where / "base.jsonl", candidate_records=where / "candidate.jsonl"
    )
    policy = where / "policy.yaml"
    digests = command(sources, policy=policy).results[0].digests
    pins = {name: digests[name] for name in ("policy", "base_records")}
    assert command(sources, policy=policy, pinned=pins).exit_code == 3
    policy.write_text("margin: 0.5\n")
    with pytest.raises(IntegrityError, match="policy has the digest"):
        command(sources, policy=policy, pinned=pins)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("marginn: 0.05", "unknown key 'policy.marginn'; did you mean 'margin'"),
        ("margin: 7", "policy.margin"),
        ("- 1", "not a mapping"),
        ("a: [", "not valid YAML"),
    ],
)
def test_a_bad_policy_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(text)
    with pytest.raises(UsageError, match=message):
        load_policy(path)
    with pytest.raises(UsageError, match="does not exist"):
        load_policy(tmp_path / "none.yaml")


def test_sources_are_named_once_and_whole(tmp_path: Path) -> None:
    for sources in (Sources(), Sources(run=tmp_path, base_records=tmp_path)):
        with pytest.raises(UsageError, match="name one thing to gate"):
            command(sources)
    policy = stored_pair(tmp_path, suite(60)) / "policy.yaml"
    with pytest.raises(UsageError, match="go together"):
        command(Sources(base_records=tmp_path), policy=policy)
    with pytest.raises(UsageError, match="--policy is needed"):
        command(Sources(base_records=tmp_path, candidate_records=tmp_path))


@pytest.mark.parametrize("records", [True, False])
def test_help_and_a_gate_on_records_import_nothing_heavy(tmp_path: Path, records: bool) -> None:
    """Each of these alone takes 0.3 s or more; a gate on records takes less than 1 s in all."""
    where = stored_pair(tmp_path, suite(200))
    paths = ["--base-records", "base.jsonl", "--candidate-records", "candidate.jsonl"]
    asked = [*paths, "--policy", "policy.yaml"] if records else ["--help"]
    program = (
        "import sys\nfrom retainbench.harness.cli.main import main\ntry:\n    main()\n"
        f"finally:\n    print([m for m in {HEAVY} if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "gate", *asked],
        cwd=where,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == "[]\n"
    assert ("gate: PASS" in done.stdout) == records
