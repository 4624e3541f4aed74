"""The calibration's part of the page: tables of the published rows, with their limits in words.

Pure: takes rows of `calibration.py`, returns Markdown. The numbers in the text are read off them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from results.statistics.simulation import Row

PROMISED = 0.3
"""Largest true ICC at which the level is promised."""


def sections(
    found: dict[str, list[Row]], markdown: Callable[[list[Row], Sequence[str]], str]
) -> list[str]:
    """Text and tables in their order on the page."""
    tasks, gates = found["calibration_tasks"], found["calibration_gates"]
    by_task, by_gate = _tasks(tasks), _gates(gates)
    seeds, power = _seeds(found["calibration_seeds"]), found["calibration_power"]
    return [
        HEAD.format(
            draws=tasks[0]["draws"],
            error=_points(0.05 * 0.95, tasks[0]),
            task=_percent(max(_values(tasks, "false_pass", PROMISED))),
            gate=_percent(max(_values(gates, "pass", PROMISED))),
            alarm=_percent(max(_values(tasks, "false_regression", 1.0))),
            gate_alarm=_percent(max(_values(gates, "regression", 1.0))),
            beyond=_percent(max(_values(tasks, "false_pass", 1.0))),
        ),
        TASKS,
        markdown(by_task, list(by_task[0])),
        GATES.format(draws=gates[0]["draws"], error=_points(0.05 * 0.95, gates[0])),
        markdown(by_gate, list(by_gate[0])),
        SEEDS.format(draws=found["calibration_seeds"][0]["draws"]),
        markdown(seeds, list(seeds[0])),
        PAIRS.format(draws=found["calibration_pairs"][0]["draws"]),
        markdown(found["calibration_pairs"], PAIR_COLUMNS),
        AXES,
        markdown(found["calibration_axes"], ["axis", "icc", "drop", "coverage", "coverage_error"]),
        GRADED,
        markdown(
            found["calibration_graded"], ["n", "margin", "loss", "false_pass", "false_pass_error"]
        ),
        SATURATED,
        markdown(found["calibration_saturated"], ["n", "margin", "discordance", "false_pass"]),
        POWER.format(
            planned=_overstated(power, planned=True), none=_overstated(power, planned=False)
        ),
        markdown(power, ["task", "discordance", "icc", "stated", "true", "true_error"]),
    ]


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _points(variance: float, row: Row) -> str:
    return f"{100 * (variance / float(row['draws'])) ** 0.5:.2f}"


def _values(rows: list[Row], column: str, most: float) -> list[float]:
    return [float(row[column]) for row in rows if float(row["icc"]) <= most]


def _tasks(rows: list[Row]) -> list[Row]:
    """Per task: worst false PASS at each ICC and worst of the rest over all bases."""
    found: list[Row] = []
    for name in dict.fromkeys(row["task"] for row in rows):
        own = [row for row in rows if row["task"] == name]
        line: Row = {"task": name, "clusters": own[0]["clusters"]}
        for icc in dict.fromkeys(float(row["icc"]) for row in rows):
            # Items that share no cluster have no correlation to vary.
            at = [row for row in own if row["icc"] == icc] or own
            line[f"false PASS, ICC {icc:g}"] = max(float(row["false_pass"]) for row in at)
        held = [row for row in own if float(row["icc"]) <= PROMISED]
        line["false REGRESSION"] = max(float(row["false_regression"]) for row in own)
        line[f"least coverage, ICC to {PROMISED:g}"] = min(float(row["coverage"]) for row in held)
        found.append(line)
    return found


def _gates(rows: list[Row]) -> list[Row]:
    found: list[Row] = []
    for harmed, others in dict.fromkeys((row["at_margin"], row["others"]) for row in rows):
        own = [row for row in rows if (row["at_margin"], row["others"]) == (harmed, others)]
        line: Row = {"at its margin": harmed, "the others' drop, margins": others}
        line |= {f"PASS, ICC {float(row['icc']):g}": float(row["pass"]) for row in own}
        line["REGRESSION"] = max(float(row["regression"]) for row in own)
        found.append(line)
    return found


def _seeds(rows: list[Row]) -> list[Row]:
    """Least coverage over the axes and the shares of interaction."""
    found: list[Row] = []
    for case in dict.fromkeys(row["case"] for row in rows):
        line: Row = {"case": case}
        for count in dict.fromkeys(row["seeds"] for row in rows):
            own = [row for row in rows if (row["case"], row["seeds"]) == (case, count)]
            line[f"{count} seeds"] = min(float(row["coverage"]) for row in own)
        found.append(line)
    return found


def _overstated(rows: list[Row], *, planned: bool) -> str:
    """By how many points stated power is above the true one at most, and where."""
    most = {
        row["task"]: max(float(r["icc"]) for r in rows if r["task"] == row["task"]) for row in rows
    }
    own = [row for row in rows if (float(row["icc"]) == most[row["task"]]) == planned]
    worst = max(own, key=lambda row: float(row["stated"]) - float(row["true"]))
    points = 100 * (float(worst["stated"]) - float(worst["true"]))
    return f"{points:.1f} points ({worst['task']}, discordance {float(worst['discordance']):g})"


HEAD = """## Calibration on the tasks of this repository

The core suite's own tasks with their cluster labels; damage that items of a cluster share (ICC);
bases right on all, .9 or .6 of the items. The true drop is the margin (5 points), where a PASS is
wrong and likeliest. {draws} runs per row; Monte Carlo standard error at 5 %: {error} points.

**What is promised, and where it ends.** Up to a true ICC of .3: largest false PASS of any core task
{task}, of the whole gate {gate}. Largest false REGRESSION at any ICC: {alarm} of one task,
{gate_alarm} of the gate. Beyond the promise, at an ICC of .6, false PASS reaches {beyond}: a policy
whose tasks lose whole clusters at once sets `icc` higher.
An interval over seeds covers what its seeds show: a method that collapses in one run of three is
covered in two of three cases with three seeds. Questions of another kind are not covered at all."""

TASKS = """### One task at its margin

The worst over the bases. The planned ICC is .2, and more where damage showed more (`task_iccs`,
results/sensitivity); items in clusters of their own have ICC 0."""

GATES = """### The whole gate

All core tasks are mandatory. One is at its margin; the others lose nothing, or (damage correlated
over tasks) half their margin. The last row has every task at its margin, where a false REGRESSION
is likeliest. {draws} releases per ICC; Monte Carlo standard error at 5 %: {error} points."""

SEEDS = """### A method over 2, 3 and 5 seeds

Least coverage of the 90 % interval of an axis' mean drop, over two axes (the clusters of calendar,
clock, dates; of agreement, elements) and two shares of seed-by-item interaction (.2, .6). {draws}
runs per row. A collapse that no seed shows cannot be covered: (2/3)^2, (2/3)^3, (2/3)^5 of the runs
are without one."""

PAIRS = """### Pairs of methods over 2, 3 and 5 seeds

Half of the methods lose 8 points more than the others; 200 items, {draws} runs per row of six
methods. `any mistake`: how often at least one pair of methods that lose the same is told apart
after Holm's correction (nominal: at most .1). `found`: share of the pairs 8 points apart that are
told apart. From five methods and three seeds on, pairs borrow strength from each other for their
variances over seeds; with two seeds they do not, and hardly anything is found. The price is in the
column of the method that scatters most, whose intervals cover less than the others' do."""

PAIR_COLUMNS = [
    "methods",
    "seeds",
    "moderated",
    "scatter over seeds",
    "coverage",
    "coverage, most scattered",
    "any mistake",
    "any mistake_error",
    "found",
    "half width, points",
]

AXES = """### One checkpoint's axis means

Tasks lose between half and one and a half of `drop`; base .9; 90 % intervals."""

GRADED = """### Graded scores: every item moves by 1e-4, a few lose .9 or .3

The mean drop is the margin."""

SATURATED = """### Independent items at the margin, by enumeration

Discordance equal to the margin is a base that was right on all items. No Monte Carlo error."""

POWER = """### Power as `retainbench power` states it

Nothing is lost on balance; margin 5 points. Stated for the planned ICC (0 for items without
clusters). Where it is most above the truth: {planned} with that ICC, {none} with none."""
