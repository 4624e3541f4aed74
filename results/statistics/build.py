"""`python -m results.statistics.build`: measure how often the statistics are right.

Reads nothing but the core suite and its tasks; writes results/statistics/*.csv and a README.md with
the tables that matter, all generated, in about fifteen minutes on one core (`--only TABLE` draws
some again). Each number carries its draws, each rate its Monte Carlo limits, and cells outside what
was asked for are listed by name. Left out: the whole gate over simulated releases through the real
path, which is results/gate.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

from results.statistics import calibration
from results.statistics.calibration_page import sections
from results.statistics.pairs import pairs_over_seeds
from results.statistics.respondents import known_forgetting
from results.statistics.simulation import (
    Row,
    coverage_binary,
    coverage_clustered,
    coverage_graded,
    coverage_seeds,
    exact_pass_rates,
    verdict_errors,
)
from retainbench.harness.core.files.storage import csv_text, read_csv, write_text
from retainbench.harness.core.text.markdown import grid

RESULTS = Path(__file__).resolve().parent
DRAWS = 20_000
SLOW_SHARE = 20  # draws are divided by this where one draw holds a bootstrap or 1,000 respondents

EXACT_CELLS = ((100, 0.04, 0.02), (100, 0.04, 0.03), (200, 0.05, 0.02), (500, 0.05, 0.02))


def exact_table() -> list[Row]:
    """False PASS at a true drop equal to the margin, by enumeration (no Monte Carlo error)."""
    rows: list[Row] = []
    for n, q, margin in EXACT_CELLS:
        where: Row = {"n": n, "discordance": q, "margin": margin}
        rates: Row = dict(exact_pass_rates(n, q, margin, margin))
        rows.append(where | rates)
    return rows


Draw = Callable[[int, int], list[Row]]

TABLES: dict[str, tuple[Draw, int]] = {
    "coverage_binary": (coverage_binary, 1),
    "verdict_errors": (verdict_errors, 1),
    "false_pass_exact": (lambda _draws, _seed: exact_table(), 1),
    "coverage_graded": (coverage_graded, SLOW_SHARE),
    "coverage_clustered": (coverage_clustered, SLOW_SHARE),
    "coverage_seeds": (coverage_seeds, SLOW_SHARE),
    "known_forgetting": (known_forgetting, SLOW_SHARE),
    "calibration_tasks": (calibration.tasks_at_the_margin, 2),
    "calibration_gates": (calibration.gates, 4),
    "calibration_seeds": (calibration.seeds, 10),
    "calibration_pairs": (pairs_over_seeds, 100),
    "calibration_axes": (calibration.axes, SLOW_SHARE),
    "calibration_graded": (calibration.graded_point_masses, 4),
    "calibration_saturated": (calibration.saturated, 1),
    "calibration_power": (calibration.planned_power, 5),
}
"""File stem -> the function that draws the table, and what its draws are divided by."""


def write_csv(path: Path, rows: list[Row]) -> None:
    """One CSV with six significant digits."""
    lines = ([_cell(value, "{:.6g}") for value in row.values()] for row in rows)
    write_text(path, csv_text(list(rows[0]), lines))


def read_rows(path: Path) -> list[Row]:
    """The rows as published, so that the page can only show what the tables hold."""
    return [{key: _value(text) for key, text in row.items()} for row in read_csv(path)]


def _value(text: str) -> str | float | bool:
    if text in ("yes", "no"):
        return text == "yes"
    try:
        return int(text) if text.isdigit() else float(text)
    except ValueError:  # a name, such as a method's
        return text


def _cell(value: str | float | bool, number: str) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return number.format(value) if isinstance(value, float) else str(value)


def published(folder: Path) -> dict[str, list[Row]]:
    """Every table of a results folder by file stem."""
    return {name: read_rows(folder / f"{name}.csv") for name in TABLES}


def markdown(rows: list[Row], columns: Sequence[str]) -> str:
    """Some columns of a table as Markdown, four decimals."""
    cells = [[_cell(row[name], "{:.4f}") for name in columns] for row in rows]
    align = "".join("l" if isinstance(rows[0][name], str) else "r" for name in columns)
    return "\n".join(grid(columns, cells, align))


def coverage_summary(rows: list[Row]) -> list[Row]:
    """Cells inside, above and below 93-97% per method and number of items."""
    summary: list[Row] = []
    for method in dict.fromkeys(str(r["method"]) for r in rows):
        for n in dict.fromkeys(r["n"] for r in rows):
            cells = [r for r in rows if r["method"] == method and r["n"] == n]
            sides = [r["within_93_97"] for r in cells]
            found = [float(r["coverage"]) for r in cells]
            row: Row = {"method": method, "n": n, "cells": len(cells)}
            row |= {side: sides.count(side) for side in ("inside", "above", "below")}
            summary.append(row | {"lowest": min(found), "highest": max(found)})
    return summary


def outside(rows: list[Row], method: str) -> list[Row]:
    """Cells of one method whose coverage is not in 93-97%."""
    return [r for r in rows if r["method"] == method and r["within_93_97"] != "inside"]


def error_summary(rows: list[Row]) -> list[Row]:
    """Largest error rate per n: PASS at the margin or beyond, REGRESSION at the margin or below."""
    summary: list[Row] = []
    for n in dict.fromkeys(r["n"] for r in rows):
        cells = [r for r in rows if r["n"] == n]
        false_pass = [float(r["pass"]) for r in cells if r["pass_is_error"]]
        false_alarm = [float(r["regression"]) for r in cells if r["regression_is_error"]]
        summary.append(
            {
                "n": n,
                "cells": len(cells),
                "largest false PASS": max(false_pass),
                "largest false REGRESSION": max(false_alarm),
            }
        )
    return summary


def above_nominal(rows: list[Row], alpha: float = 0.05) -> list[Row]:
    """Cells whose error rate exceeds alpha by more than two Monte Carlo standard errors."""

    def worst(row: Row) -> float:
        errors = [("pass", "pass_is_error"), ("regression", "regression_is_error")]
        return max(float(row[rate]) for rate, counts in errors if row[counts])

    def limit(row: Row) -> float:
        return alpha + 2 * float((alpha * (1 - alpha) / float(row["draws"])) ** 0.5)

    return [r for r in rows if worst(r) > limit(r)]


def readme(found: dict[str, list[Row]], draws: int, seed: int) -> str:
    """The page that says what was measured, with which command, and where it falls short."""
    cover, errors = found["coverage_binary"], found["verdict_errors"]
    where = ["n", "accuracy", "discordance", "drop", "coverage", "low", "high"]
    over = ["n", "discordance", "margin", "drop", "pass", "tango_pass_exact", "regression"]
    parts = [
        HEAD.format(draws=draws, seed=seed, slow=max(1, draws // SLOW_SHARE)),
        *sections(found, markdown),
        COVERAGE,
        markdown(
            coverage_summary(cover),
            ["method", "n", "cells", "inside", "above", "below", "lowest", "highest"],
        ),
        "Cells of the interval that decides (Tango) outside 93-97%:",
        markdown(outside(cover, "tango"), where),
        "Cells of the cross-check (Newcombe 10) outside 93-97%:",
        markdown(outside(cover, "newcombe"), where),
        ERRORS,
        markdown(error_summary(errors), list(error_summary(errors)[0])),
        "Cells above 5% + 2 Monte Carlo standard errors:",
        markdown(above_nominal(errors), over) if above_nominal(errors) else "None.",
        EXACT,
        markdown(found["false_pass_exact"], list(found["false_pass_exact"][0])),
        GRADED,
        markdown(found["coverage_graded"], ["shape", "n", "method", "coverage", "low", "high"]),
        CLUSTERED,
        markdown(found["coverage_clustered"], ["clusters", "method", "coverage", "low", "high"]),
        SEEDS,
        markdown(found["coverage_seeds"], ["seeds", "items", "method", "coverage", "low", "high"]),
        FORGETTING,
        markdown(found["known_forgetting"], FORGETTING_COLUMNS),
    ]
    return "\n\n".join(part.strip() for part in parts) + "\n"


FORGETTING_COLUMNS = [
    "known_before",
    "known_after",
    "choices",
    "repeated_guesses",
    "gold_lead_nats",
    "true_loss",
    "net_mean",
    "net_mc_se",
    "net_coverage",
    "soft_mean",
    "soft_mc_se",
    "soft_coverage",
    "unclipped_mean",
    "unclipped_bias",
    "clipped_mean",
    "clipped_bias",
]

HEAD = """# How often the statistics are right

Generated by `python -m results.statistics.build --draws {draws} --seed {seed}`; do not edit.
{draws} draws per cell for independent binary items, {slow} where a draw holds a bootstrap,
clusters, seeds or respondents. `low` and `high` are Wilson 95% limits over draws. The CSV files
next to this page hold every cell."""

COVERAGE = """## Coverage of the 95% interval of the drop, independent binary items

Grid: n x base accuracy x discordance x true drop (0 and .02), without the combinations that do not
exist. Asked: 93-97%. Above means wider than needed: with n q below about ten flips the distribution
is too coarse for anything else. Wald is shown as the interval that is not used."""

ERRORS = """## Errors of the three-way verdict, margin tested at one-sided 5%

The union of Tango, Newcombe and worst item at 90%, base accuracy .6. A PASS is an error at a true
drop of one or two margins, a REGRESSION at 0, half and one margin. One cell in 44 lies two
Monte Carlo standard errors above its true rate by chance alone; tango_pass_exact, by enumeration,
tells a true excess of the PASS rate from noise."""

EXACT = """## False PASS when the true drop equals the margin, by enumeration

No Monte Carlo error; nominal .05."""

GRADED = """## Coverage for graded scores (95%)

Skewed: Beta(8, 2) times Beta(1, 9), mean .08. Symmetric: .3 times a difference of two Beta(2, 2).
BCa here with 999 resamples."""

CLUSTERED = """## Coverage for clustered items (95%)

Clusters of 5 items that share their chance of being lost, Beta(1, 9)."""

SEEDS = """## Coverage of a method's mean drop over seeds x items (95%)

Seed effect sd .02, item sd .2, residual sd .3."""

FORGETTING = """## Planted loss of knowledge, guessing among the choices

1,000 items per draw. Net: drop of accuracy / (1 - 1/K). Soft: drop of the gold probability /
(1 - 1/K). Unclipped and clipped: the published chance adjustment of lost items. Coverage: 95%
intervals of single draws. With a gold lead of 12 nats the respondent is certain of what it knows
and both net and soft estimate the loss; with a lead of 3 nats it is not (p = .87), and soft
estimates the loss of confidence, which is smaller. It is a companion, not a count of lost items."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw all tables, or those named, and write the page from all that are in the folder."""
    parser = argparse.ArgumentParser(prog="python -m results.statistics.build")
    parser.add_argument("--draws", type=int, default=DRAWS)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--only", nargs="+", choices=list(TABLES), default=list(TABLES))
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    for name in options.only:
        draw, share = TABLES[name]
        write_csv(options.out / f"{name}.csv", draw(max(1, options.draws // share), options.seed))
    text = readme(published(options.out), options.draws, options.seed)
    (options.out / "README.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
