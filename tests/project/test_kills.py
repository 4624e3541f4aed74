"""A sample of the kill campaign: each command is killed at some of its file operations.

All operations of a command: `python tests/project/test_kills.py certify` (or chain, export, freeze,
freeze_suite, publish, run) prints faults as they are found, and figures; `... run 2 5` tries the
second fifth of the states.
"""

from __future__ import annotations

import importlib
import json
import re
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from fixtures import certify as stand_in
from fixtures.kills import Campaign, bad, perform, tree, undisturbed
from fixtures.runs import SFT, plan_of, suite
from retainbench.harness.certificate import certify as certifying
from retainbench.harness.certificate.chain.certify import certify_chain
from retainbench.harness.certificate.export import export
from retainbench.harness.contracts.tiny_model import save_tiny
from retainbench.harness.core.files import locks
from retainbench.harness.report import publish, report
from retainbench.harness.running import run as runner
from retainbench.harness.suites import freeze as suite_freezing
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


TASK = """task: NAME
dataset_path: json
dataset_kwargs: {data_files: {test: ROWS}}
output_type: multiple_choice
test_split: test
doc_to_text: "{{q}}"
doc_to_choice: o
doc_to_target: 0
metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]
"""
IMPORTED = {
    "run": ("altair", "trl", "retainbench.trainers.sft", "retainbench.harness.report.page.html"),
    "publish": ("altair", "vl_convert", "retainbench.harness.report.page.html"),
    "freeze_suite": ("lm_eval.tasks", "datasets"),
}
"""What a command imports late; imported here once instead of in every child."""
RANDOM = re.compile(r"(?<=\.tmp-retainbench-)[0-9a-f]{8}-\d+-[0-9a-f]{8}")
"""Host, process and a number in the name of a temporary file."""


def certify(place: Path, root: Path) -> Campaign:
    """Certify over an older certificate, with the cache of the base's records in the folder."""
    base, candidate = stand_in.model(place / "base"), stand_in.model(place / "candidate")
    rules = (stand_in.suite(), stand_in.POLICY, root / "cert")

    def action() -> None:
        request = stand_in.request(stand_in.Answers())
        certifying.certify(str(base), str(candidate), *rules, request, overwrite=True)

    action()
    return Campaign(action, root)


def chain(place: Path, root: Path) -> Campaign:
    """Certify a chain of three links; the records of finished tasks are in the folder."""
    links = [str(stand_in.model(place / name)) for name in ("base", "sft", "release")]
    rules = (stand_in.suite(), stand_in.POLICY, root / "cert")

    def action() -> None:
        request = stand_in.request(stand_in.Answers())
        certify_chain(links, *rules, request, overwrite=True)

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


def freeze_suite(place: Path, root: Path) -> Campaign:
    """Freeze a suite of two tasks, with its lock."""
    tasks = place / "tasks"
    tasks.mkdir()
    rows = [{"q": f"{n} + 1?", "o": [str(n + 1), "?"]} for n in range(3)]
    (tasks / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name in ("one", "two"):
        (tasks / f"{name}.yaml").write_text(
            TASK.replace("NAME", name).replace("ROWS", str(tasks / "rows.jsonl"))
        )
    sources = {name: {"axis": "numeric"} for name in ("one", "two")}
    chosen = stand_in.suite(sources=sources)

    def action() -> None:
        with locks.growing(root):
            order = suite_freezing.FreezeRequest(chosen, root, tasks)
            assert all(outcome.frozen for outcome in suite_freezing.run(order))

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
    assert perform(_run(place, made), made, undisturbed) == 0

    def action() -> None:
        publish.publish(made, root / "results")

    assert perform(action, root, undisturbed) == 0
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
    "chain": chain,
    "certify": certify,
    "export": export_,
    "freeze": freeze,
    "freeze_suite": freeze_suite,
    "publish": publish_,
    "run": run,
}


def prepared(command: str, place: Path, patch: pytest.MonkeyPatch) -> Campaign:
    """A command in an empty folder, with a cache of its own and a clock that does not move."""
    root = place / "root"
    root.mkdir()
    patch.setenv("RETAINBENCH_CACHE", str(root / "cache"))
    patch.setattr(certifying, "datetime", stand_in.FixedClock)
    return COMMANDS[command](place, root)


@pytest.mark.parametrize("command", ["certify", "export", "freeze"])
def test_a_kill_leaves_nothing_behind(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    campaign = prepared(command, tmp_path, monkeypatch)
    count = len(campaign.states)
    sample = sorted({0, 1, count // 3, count // 2, count - 3, count - 2, count - 1})
    assert bad(campaign.resume(campaign.states[index]) for index in sample) == []


def test_a_kill_leaves_what_the_folder_holds_before_the_operation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    campaign = prepared("freeze", tmp_path, monkeypatch)
    for state in campaign.states[::5]:
        assert _named(campaign.kill(state.number)) == _named(tree(state.folder))


def _named(files: dict[str, str]) -> dict[str, str]:
    """Without what is random or names a process."""
    return {
        RANDOM.sub("", name): "" if name.endswith(locks.NAME) else sha
        for name, sha in files.items()
    }


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary, pytest.MonkeyPatch.context() as patching:
        for module in IMPORTED.get(sys.argv[1], ()):
            importlib.import_module(module)
        begun = time.monotonic()
        whole = prepared(sys.argv[1], Path(temporary), patching)
        part, parts = map(int, sys.argv[2:] or ("1", "1"))
        kinds = whole.recovered() if sys.argv[1] == "run" else whole.states
        tried = kinds[part - 1 :: parts]
        faults = 0
        for killed in tried:
            for fault in bad([whole.resume(killed)]):
                faults += 1
                sys.stdout.write(f"{fault}\n")
                sys.stdout.flush()
        counted = f"{whole.operations} operations, {len(whole.states)} states, {len(kinds)} kinds"
        seconds = f"{time.monotonic() - begun:.0f} s"
        outcome = f"{len(tried)} tried, {faults} with a fault, {seconds}"
        sys.stdout.write(f"{sys.argv[1]}: {counted}, {outcome}\n")
