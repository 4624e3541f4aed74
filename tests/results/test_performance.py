"""Measurements run, count the right things, and make the page that is published."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, get_args

import pytest
from torch.utils.flop_counter import FlopCounterMode

from results.performance import build as bench
from results.performance import page as bench_page
from results.performance.arithmetic import flops, gemm_rate
from results.performance.gate import bench as bench_gate
from results.performance.growth import made_up
from results.performance.matrix import GROWTH, PEER, fit
from results.performance.matrix import findings as matrix_findings
from results.performance.process import OURS, alternate, spend
from results.performance.scoring import requests, rows, timed
from retainbench.harness.core.errors import UsageError
from retainbench.harness.models import bases, loading
from retainbench.harness.models.inference import frozen
from retainbench.harness.scoring.packing.layout import lay_out
from retainbench.harness.scoring.packing.packed import attention_width, prices, score_layout

RESULTS = Path(bench_page.__file__).resolve().parent


def test_a_command_is_charged_for_itself_and_not_for_who_starts_it() -> None:
    ballast = bytearray(600_000_000)
    ballast[::4096] = b"x" * len(ballast[::4096])
    work = "x = bytearray(10**8); x[::4096] = b'x' * len(x[::4096]); sum(range(3 * 10**6))"
    spent = spend([sys.executable, "-S", "-c", work])
    assert 1e8 < spent.peak_bytes < 2e8
    assert 0 < spent.cpu_s < spent.wall_s + 0.05


def test_a_failing_command_shows_the_end_of_what_it_wrote() -> None:
    failing = [sys.executable, "-c", "import sys; sys.exit('no such luck')"]
    with pytest.raises(RuntimeError, match=r"ended with 1:\nno such luck"):
        spend(failing)
    assert spend(failing, accepted=(0, 1)).wall_s > 0


def test_ways_take_turns_and_are_compared_with_the_first() -> None:
    turns: list[str] = []

    def way(name: str, seconds: float) -> Any:
        def run() -> Any:
            turns.append(name)
            return spend([sys.executable, "-S", "-c", f"import time; time.sleep({seconds})"])

        return run

    ours, peer = alternate("naps", {OURS: way("a", 0.0), "peer": way("b", 1.0)}, 2)
    assert turns == ["a", "b", "a", "b"]
    assert (ours.way, ours.ours_over_this) == (OURS, 1.0)
    assert peer.wall_s > 1.0
    assert peer.ours_over_this == ours.wall_s / peer.wall_s


def test_flops_are_those_that_torch_counts(tiny_base: Path) -> None:
    """On a chain, where attention is plainly causal: torch counts the masked half of it too."""
    model = loading.load(tiny_base).model
    (request, *_) = made_up(1, 1, 0, model.config.vocab_size)
    layout = lay_out([request], prices(model))
    with FlopCounterMode(display=False) as counter, frozen(model):
        score_layout(model, layout)
    counted = {str(name): n for name, n in counter.get_flop_counts()["Global"].items()}
    attention = sum(n for name, n in counted.items() if "attention" in name or "bmm" in name)
    length, config = len(request.inputs), model.config
    own = 2.0 * 2 * config.num_hidden_layers * attention_width(config) * length * (length + 1) / 2
    assert flops(model, layout) - own == sum(counted.values()) - attention
    assert gemm_rate(model) > 0


def test_scoring_is_timed_and_compared_task_by_task() -> None:
    loaded = loading.load(bases.named()["fruitfly"])
    asked = requests(["capitals"], 6)["capitals"]
    ours, peer = rows("capitals", asked, timed(loaded, asked, (8,), 2))
    assert (ours.way, peer.way) == (OURS, "hf 8")
    assert (ours.items, ours.requests) == (peer.items, peer.requests) == (6, 24)
    assert ours.unique_nodes <= ours.tokens <= 1.1 * ours.unique_nodes < peer.tokens
    assert peer.largest_difference <= 1e-4
    assert peer.greedy_differences == ours.greedy_differences == 0
    assert peer.times_ours == peer.wall_s / ours.wall_s


def test_the_gate_is_measured_on_records_that_it_accepts(tmp_path: Path) -> None:
    ours, *peers = found = list(bench_gate(repeats=1, tasks=3, items=60))
    assert ours.way == OURS
    assert [peer.way for peer in peers] == ["pandas", "pandas, pyarrow"]
    assert all(row.wall_s > 0 and row.peak_mb > 10 for row in found)
    bench_page.write(tmp_path, "gate", found, bench_page.measured("gate", "command", 1, None))
    assert bench_page.read(tmp_path / "gate.csv") == [row._asdict() for row in found]


def test_measurements_are_printed_and_published(tiny_base: Path, tmp_path: Path) -> None:
    out, said = tmp_path / "results" / "performance", list[str]()
    options = bench.Options(repeats=1, base=str(tiny_base), items=4)
    bench.bench("rollout", options, out, said.append)
    bench.bench("growth", options._replace(items=None, repeats=2), out, said.append)
    bench.bench("scoring", options._replace(task=("capitals",)), out, said.append)
    names = {path.name for path in out.iterdir()}
    stems = ("growth-tiny", "rollout-tiny", "scoring-tiny-capitals")
    assert names == {"README.md", *(f"{s}.csv" for s in stems), *(f"{s}.json" for s in stems)}
    page = (out / "README.md").read_text("utf-8")
    assert page == bench_page.page(out)
    command = "rollout --base tiny --items 4 --repeats 1 --out results/performance"
    assert f"### `python -m results.performance.build {command}`" in page
    assert "--task capitals" in page
    assert str(tmp_path) not in page
    for line in said[-2:]:  # what the last measurement's rows show
        assert f"- {line}" in page
    stored = bench_page.read(out / "growth-tiny.csv")
    assert [row["items"] for row in stored[:4]] == [25, 50, 100, 200]
    assert all(0 < row["share"] < 1 for row in stored)


def test_an_option_that_a_measurement_does_not_have_is_refused() -> None:
    with pytest.raises(UsageError, match=r"--items is not an option of gate"):
        bench.bench("gate", bench.Options(items=3), None, print)


def test_the_command_refuses_it_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        bench.main(["gate", "--items", "3"])
    assert caught.value.code == 2
    assert capsys.readouterr().err.endswith("--items is not an option of gate. Leave it out.\n")


def test_a_processor_without_a_model_name_is_measured_all_the_same(tmp_path: Path) -> None:
    """ARM's /proc/cpuinfo names no model: a KeyError there lost the whole measurement."""
    arm = tmp_path / "cpuinfo"
    arm.write_text("processor\t: 0\nBogoMIPS\t: 243.75\nCPU implementer\t: 0x41\n")
    assert bench_page.machine(arm)["processor"]


@pytest.mark.parametrize("what", get_args(bench_page.What))
def test_every_measurement_says_what_it_is(what: bench_page.What) -> None:
    module = bench_page.module(what)
    assert module.ABOUT
    assert bench_page.TITLES[what]
    assert callable(module.bench)
    assert callable(module.findings)


def test_growth_of_the_matrix_is_a_line() -> None:
    assert fit([(1, 3.0), (4, 9.0), (8, 17.0)]) == pytest.approx((1.0, 2.0))
    found = [
        {"work": "matrix", "way": PEER, "cells": 4, "workers": 1, "ours_over_this": 0.2},
        *(
            {"work": GROWTH, "way": OURS, "cells": n, "workers": w, "wall_s": 4.0 + 2 * n / w}
            for n in (1, 4)
            for w in (1, 2)
        ),
    ]
    assert matrix_findings(found) == [
        "4 cells take 0.20 of the loop's time with one worker.",
        "One worker: 4.0 s to start, score the base and report, 2.0 s a cell.",
        "Speed of 4 cells against one worker: 1.50 times with 2.",
    ]


def test_published_page_is_made_from_the_published_rows() -> None:
    assert (RESULTS / "README.md").read_text("utf-8") == bench_page.page(RESULTS)
