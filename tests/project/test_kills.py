"""A sample of the kill campaign: each command is killed at some of its file operations.

All operations of a command: `python tests/project/test_kills.py certify` (or freeze, publish,
export, run) prints faults and totals as it goes; a number after the name takes every n-th one.
"""

from __future__ import annotations

import datetime
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from fixtures import certify as stand_in
from fixtures.kills import Campaign, bad, perform
from fixtures.runs import SFT, plan_of, suite
from retainbench.harness.certificate import certify as certifying
from retainbench.harness.certificate.export import export
from retainbench.harness.contracts.tiny_model import save_tiny
from retainbench.harness.core.files import locks
from retainbench.harness.report import publish, report
from retainbench.harness.running import run as runner
from retainbench.harness.tasks import freeze as freezing

TIMED = (
    "train.json",
    "-1.0000.json",
    "scorecard.json",
    "scorecards.jsonl",
    "report.html",
    ".pdf",
)
"""Files with wall times, and PDF files, whose writer numbers its objects at random."""


class Fixed(datetime.datetime):
    """A clock that does not move, so that certificates have equal bytes."""

    @classmethod
    def now(cls, tz: datetime.tzinfo | None = None) -> Fixed:
        return cls(2026, 1, 1, tzinfo=tz)


def certify(place: Path, root: Path) -> Campaign:
    """Certify over an older certificate, with the cache of the base's records in the folder."""
    base, candidate = stand_in.model(place / "base"), stand_in.model(place / "candidate")
    rules = (stand_in.suite(), stand_in.POLICY, root / "cert")

    def action() -> None:
        request = stand_in.request(stand_in.Answers())
        certifying.certify(str(base), str(candidate), *rules, request, overwrite=True)

    action()
    return Campaign(action, root)


def freeze(place: Path, root: Path) -> Campaign:
    """Freeze over an older pack, next to another one."""
    rows = [{"id": str(n), "query": f"{n} + 1 =", "answer": str(n + 1)} for n in range(3)]
    (place / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def action(name: str = "sums") -> None:
        with locks.growing(root):
            made = freezing.from_jsonl(place / "rows.jsonl", name, "numeric", licence="CC0-1.0")
            freezing.write(made, root, overwrite=True)

    action("neighbour")
    action()
    return Campaign(action, root)


def export_(place: Path, root: Path) -> Campaign:
    """Export a certificate in the format with the most files."""
    made = stand_in.make(place)

    def action() -> None:
        export(made.bundle.root, "every-eval-ever", root, allow_unsigned=True)

    return Campaign(action, root)


def run(place: Path, root: Path) -> Campaign:
    """A run of two cells on a tiny base, with its tables."""
    return Campaign(_run(place, root), root, timed=TIMED)


def publish_(place: Path, root: Path) -> Campaign:
    """Publish a run over an older publication.

    Both are made in children: threads of Arrow that this process has started hang in a fork.
    """
    made = place / "run"
    made.mkdir()
    assert perform(_run(place, made), made)[0] == 0

    def action() -> None:
        publish.publish(made, root / "results")

    assert perform(action, root)[0] == 0
    return Campaign(action, root, timed=TIMED)


def _run(place: Path, root: Path) -> Callable[[], None]:
    save_tiny(place / "tiny", seed=0)
    small = {"budget": {"unit": "steps", "amount": 2}, "trajectory": [1.0], "items_per_task": 4}
    recipes = {"sft": SFT, "small": SFT | {"options": {"batch_size": 2}}}
    chosen = suite(place / "tiny", tasks=["capitals"], recipes=recipes, **small)
    plan = plan_of(chosen)

    def action() -> None:
        with locks.growing(root, create=True):
            runner.run(plan, root)
            report.report(root, figures=False)

    return action


COMMANDS = {
    "certify": certify,
    "freeze": freeze,
    "export": export_,
    "run": run,
    "publish": publish_,
}


@pytest.mark.parametrize("command", ["certify", "freeze", "export"])
def test_a_kill_leaves_nothing_behind(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "root"
    root.mkdir()
    monkeypatch.setenv("RETAINBENCH_CACHE", str(root / "cache"))
    monkeypatch.setattr(certifying, "datetime", Fixed)
    campaign = COMMANDS[command](tmp_path, root)
    count = len(campaign.operations)
    sample = sorted({1, 2, count // 3, count // 2, count - 2, count - 1, count})
    assert bad(campaign.kill(operation) for operation in sample) == []


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary, pytest.MonkeyPatch.context() as patch:
        here = Path(temporary)
        (here / "root").mkdir()
        patch.setenv("RETAINBENCH_CACHE", str(here / "root" / "cache"))
        patch.setattr(certifying, "datetime", Fixed)
        whole = COMMANDS[sys.argv[1]](here, here / "root")
        step = int(sys.argv[2]) if len(sys.argv) > 2 else 1
        tried = range(1, len(whole.operations) + 1, step)
        faults = 0
        for done, operation in enumerate(tried, start=1):
            for fault in bad([whole.kill(operation)]):
                faults += 1
                sys.stdout.write(f"{fault}\n")
            total = f"{done} of {len(whole.operations)} operations, {faults} with a fault"
            sys.stdout.write(f"{sys.argv[1]}: {total}\n")
            sys.stdout.flush()
