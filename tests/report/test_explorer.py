"""`flips.html`: lost and gained items of gates and certificates, with nothing of it executed."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fixtures import certify as fixtures
from fixtures.adoption import inspect_log, lm_eval_row, lm_eval_run
from fixtures.browser import chromium, requests, wait_for
from fixtures.report import HOSTILE
from retainbench.harness.certificate import measure
from retainbench.harness.certificate.chain.certify import certify_chain
from retainbench.harness.certificate.verify import verify
from retainbench.harness.cli import main as cli

ITEMS = 60


def retainbench(*arguments: object, code: int = 0) -> None:
    """The command line; checks its exit code."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["retainbench", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
    assert (ended.value.code or 0) == code


def shown(page: Path) -> Any:
    """What the page's script reads."""
    text = page.read_text(encoding="utf-8")
    block = re.search(r'<script type="application/json" id="flip-data">(.*?)</script>', text)
    assert block
    assert not set("<>&") & set(block[1])
    return json.loads(block[1])


def hostile_results(root: Path) -> tuple[Path, Path]:
    """lm-eval results with hostile texts; the candidate loses 20 items and gains 5."""
    sides = []
    for side in ("base", "candidate"):
        rows = []
        for i in range(ITEMS):
            right = i >= 5 if side == "base" else i < 40
            row = lm_eval_row(i, right=right)
            row["doc"] = {"id": f"{HOSTILE[i % len(HOSTILE)]}{'x' * 300}-{i}"}
            for number, request in enumerate(row["arguments"].values()):
                request["arg_0"] = f"Question {i}? {HOSTILE[i % len(HOSTILE)]}"
                request["arg_1"] = f" choice {number} {HOSTILE[number]}"
            rows.append(row)
        numbers = {"tiny": {"original": ITEMS, "effective": ITEMS}}
        sides.append(lm_eval_run(root / side, rows, **{"n-samples": numbers}))
    (root / "policy.yaml").write_text("margin: 0.05\nminimum_items: 50\n")
    return sides[0], sides[1]


def gate_results(root: Path) -> Path:
    base, candidate = hostile_results(root)
    sides = ["--base-results", base, "--candidate-results", candidate]
    policy = ["--policy", root / "policy.yaml"]
    retainbench("gate", *sides, *policy, "--out", root / "gate", code=1)
    return root / "gate" / "flips.html"


def test_a_gate_of_adopted_results_shows_what_their_logs_have(tmp_path: Path) -> None:
    page = gate_results(tmp_path)
    data = shown(page)
    assert len(data["flips"]) == 25
    assert [flip[2] for flip in data["flips"]] == [0] * 5 + [1] * 20
    lost = data["items"][data["flips"][-1][1]]
    assert lost["prompt"] == f"Question 59? {HOSTILE[59 % len(HOSTILE)]}"
    assert [choice.split()[1] for choice in lost["choices"]] == ["0", "1", "2"]
    assert lost["base"] == lost["gold"] == lost["choices"][1]
    assert data["flips"][-1][3].startswith("choice 0 ")
    outside = re.sub(r"<script.*?</script>", "", page.read_text(), flags=re.DOTALL)
    assert not re.search(r"<(script|img|link)", outside)


def test_an_answer_that_is_no_choice_is_kept(tmp_path: Path) -> None:
    """Inspect's answers are words around a letter, and its gold is the letter."""
    for side, right in (("base", ITEMS), ("candidate", 30)):
        values = ["C"] * right + ["I"] * (ITEMS - right)
        (tmp_path / side).mkdir()
        (tmp_path / side / "log.json").write_text(json.dumps(inspect_log("tiny", values)))
    (tmp_path / "policy.yaml").write_text("margin: 0.05\nminimum_items: 50\n")
    sides = ["--base-results", tmp_path / "base", "--candidate-results", tmp_path / "candidate"]
    policy = ["--policy", tmp_path / "policy.yaml"]
    retainbench("gate", *sides, *policy, "--out", tmp_path / "gate", code=1)
    data = shown(tmp_path / "gate" / "flips.html")
    assert len(data["flips"]) == 30
    assert data["items"][0] == {
        "task": "tiny",
        "id": "30",
        "prompt": "What is 30+30?",
        "choices": ["1", "2", "4"],
        "gold": "B",
        "base": "ANSWER: B",
        "soft": None,
    }


def test_a_gate_of_records_and_a_certificate_take_prompts_from_the_tasks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RETAINBENCH_CACHE", str(tmp_path / "cache"))
    bundle = fixtures.make(tmp_path, fixtures.DAMAGE).bundle
    sides = ["--base-records", bundle.base_records, "--candidate-records", bundle.candidate_records]
    (tmp_path / "policy.yaml").write_text("margin: 0.05\n")
    policy = ["--policy", tmp_path / "policy.yaml"]
    retainbench("gate", *sides, *policy, "--out", tmp_path / "gate", code=1)
    retainbench("report", bundle.root, "--out", tmp_path / "page.html")
    gated, certified = shown(tmp_path / "gate" / "flips.html"), shown(tmp_path / "page.html")
    assert gated["items"] == certified["items"]
    assert certified["pairs"] == {"0": ["candidate against base", "", ""]}
    assert {item["task"] for item in certified["items"]} == {"arithmetic"}
    assert all(item["gold"] in item["choices"] and item["prompt"] for item in gated["items"])
    assert verify(bundle.root, allow_unsigned=True).gate.verdict == "REGRESSION"


def test_a_chain_shows_every_step_and_the_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RETAINBENCH_CACHE", str(tmp_path / "cache"))
    losses: dict[str, dict[str, float]] = {"base": {}, "sft": {}, "small": {"arithmetic": 0.2}}
    links = [str(fixtures.model(tmp_path / name, lost)) for name, lost in losses.items()]
    request = fixtures.request(fixtures.Answers(), measure=measure.drift_only)
    certify_chain(links, fixtures.suite(), fixtures.POLICY, tmp_path / "chain", request)
    retainbench("report", tmp_path / "chain", "--out", tmp_path / "page.html")
    data = shown(tmp_path / "page.html")
    named = {pair[0] for pair in data["pairs"].values()}
    assert named == {"step 2: small against sft", "whole: small against base"}
    assert [flip[0] for flip in data["flips"]] == sorted([1, 2] * (len(data["flips"]) // 2))
    assert '<select data-flip="name">' in (tmp_path / "page.html").read_text()


def test_prompts_that_are_not_here_are_missed(tmp_path: Path) -> None:
    records = fixtures.answers("arithmetic", 0.0), fixtures.answers("arithmetic", 0.3)
    for side, found in zip(("base", "candidate"), records, strict=True):
        named = [record.model_copy(update={"task": "gone"}) for record in found]
        lines = [json.dumps(record.model_dump(mode="json")) + "\n" for record in named]
        (tmp_path / side).write_text("".join(lines))
    (tmp_path / "policy.yaml").write_text("margin: 0.05\n")
    sides = ["--base-records", tmp_path / "base", "--candidate-records", tmp_path / "candidate"]
    policy = ["--policy", tmp_path / "policy.yaml"]
    retainbench("gate", *sides, *policy, "--out", tmp_path / "gate", code=1)
    page = tmp_path / "gate" / "flips.html"
    assert {item["prompt"] for item in shown(page)["items"]} == {None}
    assert "Prompts of gone are not here" in page.read_text()


def test_a_page_inside_a_certificate_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RETAINBENCH_CACHE", str(tmp_path / "cache"))
    bundle = fixtures.make(tmp_path).bundle
    retainbench("report", bundle.root, "--out", bundle.root / "page.html", code=2)
    assert "inside the certificate" in capsys.readouterr().err
    retainbench("report", bundle.root, code=2)
    assert "name the page to write with --out" in capsys.readouterr().err
    retainbench("report", tmp_path, "--out", tmp_path / "page.html", code=2)
    assert "are for a certificate" in capsys.readouterr().err
    assert verify(bundle.root, allow_unsigned=True).gate.verdict == "PASS"


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The page of a hostile gate, in a browser."""
    page = gate_results(tmp_path_factory.mktemp("results"))
    with chromium(tmp_path_factory.mktemp("profile")) as driver:
        driver.get(page.as_uri())
        wait_for(driver, "return document.querySelector('#flip-list .flip')")
        yield driver


@pytest.mark.browser
def test_the_explorer_works_in_a_browser_and_asks_for_nothing(opened: Any) -> None:
    text = "return document.getElementById(arguments[0]).textContent"
    assert opened.execute_script(text, "flip-count") == "20 of 25 items"
    choose = """
        const select = document.getElementById('flip-kind');
        select.value = '0';
        select.dispatchEvent(new Event('change', {bubbles: true}));
        """
    opened.execute_script(choose)
    assert opened.execute_script(text, "flip-count") == "5 of 25 items"
    listed = str(opened.execute_script(text, "flip-list"))
    assert "Question 0? <script>window.pwned=1</script>" in listed
    assert "gold, candidate" in listed
    assert opened.execute_script("return window.pwned") is None
    assert opened.get_log("browser") == []
    outside = [url for url in requests(opened) if not url.startswith(("chrome://", "data:"))]
    assert [Path(url).name for url in outside] == ["flips.html"]


@pytest.mark.browser
@pytest.mark.parametrize("width", [400, 1400])
def test_the_explorer_is_not_wider_than_the_screen(opened: Any, width: int) -> None:
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    opened.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    assert opened.execute_script("return document.documentElement.scrollWidth") <= width
