"""The page of claims: written from the stored rows, and right on rows whose answer is known."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from results.claims import (
    divergence,
    drift,
    evolution,
    finding,
    imitation,
    policy,
    published,
    questions,
    rank,
    resampling,
    stages,
)
from results.claims.build import CLAIMS, RESULTS, page
from results.claims.published import Published
from retainbench.harness.comparison.matched import MatchedPairRow, MatchedRow, RatioRow
from retainbench.harness.comparison.methods import MethodRow, Methods
from retainbench.harness.comparison.seed_tables import PairRow
from retainbench.harness.core.changes import AxisChange, Interval
from retainbench.harness.core.files import storage
from retainbench.harness.core.records import Ledger
from retainbench.harness.core.scorecards import (
    DivergenceSummary,
    DriftSummary,
    PointScore,
    Scorecard,
)


def test_the_page_is_written_from_the_rows() -> None:
    assert (RESULTS / "README.md").read_text() == page(RESULTS.parent)


def test_every_claim_is_asked_once() -> None:
    names = [claim.name for claim in CLAIMS]
    assert names == [*(f"C{n}" for n in range(1, 17)), "Seed"]


def test_folders_without_rows_decide_nothing(tmp_path: Path) -> None:
    assert "17 undecided" in page(tmp_path)


def interval(value: float, width: float = 0.01) -> Interval:
    return Interval(
        value=value, low=value - width, high=value + width, level=0.9, n=400, method="t"
    )


def point(
    share: float, gain: float, drift: float, *, stage: int = 0, valid: float = 1.0
) -> PointScore:
    geometry = DriftSummary(
        frobenius=drift,
        relative=drift,
        changed_parameters=1,
        parameters=1,
        unchanged_exact=0.0,
        unchanged_1e5=0.0,
        unchanged_bf16=0.0,
        cosine=1.0,
        by_kind={},
        by_layer={},
        relative_by_kind={},
        over_null=1.05,
        dtypes="F32",
    )
    return PointScore(
        stage=stage,
        fraction=share,
        ledger=Ledger(steps=round(1000 * share), flops=share),
        weights_digest="",
        base_reward=0.2,
        candidate_reward=0.2 + gain,
        gain=interval(gain),
        base_valid=0.5,
        candidate_valid=valid,
        tasks=[],
        axes=[],
        drift=geometry,
        divergence=None,
    )


def card(recipe: str, points: Sequence[PointScore], target: str = "countdown") -> Scorecard:
    return Scorecard(
        cell=recipe,
        base="fruitfly",
        target=target,
        recipe=recipe,
        method="es",
        adaptation="full",
        seed=0,
        budget="1 flops",
        status="done",
        points=list(points),
        metrics={},
        trainable_parameters=1,
        total_parameters=1,
        provenance={},
    )


def walk(recipe: str, drift: float, power: float = 0.5) -> Scorecard:
    """Gains in proportion to the budget, drift by a power of it."""
    return card(recipe, [point(t, t / 5, drift * t**power) for t in (0.1, 0.2, 0.4, 0.7, 1.0)])


def seeds_of(recipe: str, drifts: Sequence[float]) -> list[Scorecard]:
    """One cell for each seed, with its own drift."""
    return [
        walk(recipe, value).model_copy(update={"seed": seed}) for seed, value in enumerate(drifts)
    ]


@pytest.mark.parametrize(
    ("dense", "low_rank", "status"),
    [
        ((0.40, 0.41, 0.42), (0.30, 0.31, 0.32), "reproduced"),
        ((0.40, 0.41, 0.42), (0.02, 0.02, 0.03), "contradicted"),
        ((0.40, 0.41, 0.42), (0.05, 0.20, 0.30), "undecided"),
        ((0.40, 0.41), (0.02, 0.02), "undecided"),
    ],
    ids=["all above", "one below", "one not known", "two seeds"],
)
def test_drift_is_compared_where_the_gains_are_equal(
    dense: Sequence[float], low_rank: Sequence[float], status: str
) -> None:
    cells = [*seeds_of("es-16", dense), *seeds_of("eggroll-64", low_rank)]
    grpo = seeds_of("grpo", [0.01] * 3)
    assert drift.at_equal_gain(Published("es-forgetting", [*cells, *grpo], None)).status == status


def test_a_recipe_that_gains_nothing_has_no_drift_at_an_equal_gain() -> None:
    """The best of its checkpoints is above 0 by chance."""
    arms = {"es-16": (0.0, 0.02), "es-64": (0.30, 0.32, 0.34)}
    cells = [card for name, drifts in arms.items() for card in seeds_of(name, (*drifts, 0.4)[:3])]
    rows = Methods(rows=[arm("es-16", 0.01, 0.03), arm("es-64", 0.1)], absent={})
    runs = Published("es-forgetting", [*cells, *seeds_of("grpo", [0.01] * 3)], rows)
    found = drift.at_equal_gain(runs)
    assert found.status == "reproduced"
    assert "not asked of es-16, whose gain is not shown" in found.measured


def test_a_random_walk_is_told_from_steady_drift() -> None:
    walking = Published("es-forgetting", [walk("es-16", 0.3), walk("es-64", 0.2)], None)
    steady = Published("es-forgetting", [walk("es-16", 0.3, 1.0)], None)
    assert drift.random_walk(walking).status == "reproduced"
    assert drift.random_walk(steady).status == "contradicted"


@pytest.mark.parametrize(
    ("valid", "reward", "status"),
    [(0.9, 0.3, "reproduced"), (0.5, 0.3, "undecided"), (0.9, -0.1, "contradicted")],
)
def test_stages_bring_form_and_score(valid: float, reward: float, status: str) -> None:
    """The base has a reward of .2 and .5 of its answers are valid."""
    both = [point(0.2, 0.0, 0.1, valid=valid), point(1.0, reward, 0.1, stage=1, valid=valid)]
    worse = [point(0.2, 0.0, 0.1), point(1.0, -0.2, 0.1, stage=1)]
    cells = [
        card("sft-grpo", worse, "countdown_large"),
        card("sft-grpo-1e-4", both, "countdown_large"),
    ]
    found = stages.stages(Published("staged", cells, None))
    assert found.status == status
    assert found.measured[0].startswith("each seed of sft-grpo-1e-4")


def test_a_reward_that_valid_answers_alone_bring_is_no_better_score() -> None:
    """RL makes all answers valid and none of them better: the reward rises all the same."""
    cells = [
        card(
            "sft-grpo",
            [point(0.2, -0.15, 0.1, valid=0.2), point(1.0, 0.05, 0.1, stage=1, valid=1.0)],
            "countdown_large",
        )
    ]
    found = stages.stages(Published("staged", cells, None))
    assert "reward, RL stage minus SFT stage +20.0" in "; ".join(found.measured)
    assert "reward of a valid answer, RL stage minus SFT stage: 0.0 [" in "; ".join(found.measured)
    assert found.words == (
        "After the SFT stage fewer answers were valid than before it. "
        "RL after it is not shown to make valid answers better, only more of them valid."
    )


def matched(share: float | None, difference: Interval, p: float) -> MatchedPairRow:
    """The numeric drop of sft minus that of grpo at the same gain."""
    return MatchedPairRow(
        target="countdown",
        first="sft",
        second="grpo",
        axis="numeric",
        gain=0.1,
        share=share,
        difference=difference,
        p=p,
        holm_p=None if share else p,
        reason=None,
    )


@pytest.mark.parametrize(
    ("difference", "p", "status"),
    [(0.1, 0.01, "reproduced"), (-0.1, 0.01, "contradicted"), (-0.1, 0.5, "undecided")],
)
def test_longer_runs_answer_where_the_budget_ends_before_the_common_gain(
    difference: float, p: float, status: str
) -> None:
    reached = {"numeric": MatchedRow(gain=0.1, drop=0.0, low=0.0, high=0.0, reason=None)}
    rows = [arm("sft-1e-4", 0.2).model_copy(update={"matched": reached}), arm("grpo-1e-4", 0.05)]
    short = Published("frontier", [], Methods(rows=rows, absent={}))
    pairs = [matched(None, interval(difference), p)]
    both = Methods(rows=[arm("sft", 0.3), arm("grpo", 0.2)], absent={}, matched_pairs=pairs)
    longer = Published("es-forgetting", [], both)
    found = policy.forgets_less_on_policy(short, longer)
    assert (found.status, found.folder) == (status, "es-forgetting")
    alone = policy.forgets_less_on_policy(short, Published("es-forgetting", [], None))
    assert (alone.status, alone.folder) == ("undecided", "frontier")


def test_drops_are_compared_at_the_first_crossing_from_either_side() -> None:
    later, first = interval(0.3), interval(0.1)
    pairs = [matched(0.8, later, 0.5), matched(None, first, 0.5)]
    runs = Published("frontier", [], Methods(rows=[], absent={}, matched_pairs=pairs))
    assert runs.matched("sft", "grpo", "numeric") == (first, 0.5)
    other = runs.matched("grpo", "sft", "numeric")
    assert other is not None
    negative = other.interval
    assert (negative.low, negative.value, negative.high) == (-first.high, -first.value, -first.low)
    assert runs.matched("sft", "grpo", "general") is None


def test_both_parts_of_a_claim_must_hold() -> None:
    assert finding.every("reproduced", "undecided") == "undecided"
    assert finding.every("undecided", "contradicted") == "contradicted"


def arm(recipe: str, gain: float, width: float = 0.01, drop: float = 0.0) -> MethodRow:
    ratio = RatioRow(value=None, low=None, high=None, reason="no drift")
    return MethodRow(
        base="fruitfly",
        target="countdown",
        recipe=recipe,
        seeds=[0],
        gain=interval(gain, width),
        drops={"general": interval(drop), "numeric": interval(0.0)},
        trajectories={},
        matched={},
        gain_per_drift=ratio,
        gain_per_kl=ratio,
        on_front=None,
        dominated_by=[],
        tied_with=[],
    )


def pair(first: str, second: str, measure: str, value: float, width: float = 0.01) -> PairRow:
    shown = abs(value) > width
    return PairRow(
        target="countdown",
        first=first,
        second=second,
        measure=measure,
        difference=interval(value, width),
        p=0.001 if shown else 0.5,
        holm_p=1.0,
        equivalent=False,
        margin=0.02,
    )


def repaired(
    gain: float, difference: float, drop: float = 0.3, width: float = 0.01, dense: float = 0.0
) -> Published:
    """Each plain recipe loses `drop` more than its anchored twin, which gains `gain`.

    `dense` is another difference of gains for dense ES alone.
    """
    rows, pairs = [], []
    for plain, less in (("es-16", dense or difference), ("eggroll-64", difference)):
        twin = f"{plain}-anchored"
        rows += [arm(plain, gain - less), arm(twin, gain)]
        pairs += [
            pair(plain, twin, "general", drop),
            pair(plain, twin, "numeric", 0.0),
            pair(plain, twin, "gain", -less, width),
        ]
    return Published("es-forgetting", [], Methods(rows=rows, absent={}, pairs=pairs))


@pytest.mark.parametrize(
    ("runs", "status"),
    [
        (repaired(0.1, 0.0), "reproduced"),
        (repaired(0.1, 0.0, width=0.05), "undecided"),
        (repaired(0.0, 0.0), "undecided"),
        (repaired(0.1, -0.1), "contradicted"),
        (repaired(0.1, 0.0, dense=-0.1), "contradicted"),
        (repaired(0.1, 0.0, drop=-0.3), "contradicted"),
        (repaired(0.1, 0.0, drop=0.0), "undecided"),
    ],
    ids=[
        "as much",
        "not known",
        "learns nothing",
        "costs gain",
        "costs gain in one",
        "forgets more",
        "forgets alike",
    ],
)
def test_an_anchor_must_keep_a_gain_that_there_is(runs: Published, status: str) -> None:
    """A wide interval is no proof that the gain stays, and what learns nothing forgets nothing."""
    assert evolution.anchored(runs).status == status


@pytest.mark.parametrize(
    ("gains", "drops", "status", "words"),
    [
        ((0.0, -0.3), (0.2, -0.2), "reproduced", ""),
        ((0.0, -0.3), (-0.2, 0.2), "contradicted", ""),
        ((-0.3, -0.3), (0.2, -0.2), "contradicted", "of GRPO; es-16 lost more; es-64 lost less."),
    ],
    ids=["one matches and loses more", "one matches, the other loses more", "none matches"],
)
def test_the_recipe_that_matches_the_reward_must_be_the_one_that_loses_more(
    gains: Sequence[float], drops: Sequence[float], status: str, words: str
) -> None:
    names = ("es-16", "es-64")
    pairs = [pair(name, "grpo", "gain", gain) for name, gain in zip(names, gains, strict=True)]
    pairs += [pair(name, "grpo", "general", drop) for name, drop in zip(names, drops, strict=True)]
    rows = [arm(name, 0.1) for name in (*names, "grpo")]
    runs = Published("es-forgetting", [], Methods(rows=rows, absent={}, pairs=pairs))
    found = evolution.forgets_more_than_grpo(runs)
    assert found.status == status
    assert found.words.endswith(words)


@pytest.mark.parametrize(
    ("gains", "status"),
    [((0.15, 0.06, 0.05, 0.04), "reproduced"), ((0.15, 0.06, 0.0, -0.05), "contradicted")],
)
def test_lora_is_asked_of_every_rank(gains: Sequence[float], status: str) -> None:
    """Full training minus LoRA; it loses more than each rank."""
    ranks = imitation.RANKS
    pairs = [pair("full", name, "gain", gain) for name, gain in zip(ranks, gains, strict=True)]
    pairs += [pair("full", name, "general", 0.1) for name in ranks]
    rows = [arm(name, 0.1) for name in ("full", *ranks)]
    runs = Published("lora-ranks", [], Methods(rows=rows, absent={}, pairs=pairs))
    found = imitation.learns_and_forgets_less(runs)
    assert found.status == status
    assert ("lora-64 gained more" in found.words) == (status == "contradicted")


def test_an_order_by_drift_that_rates_change_is_said_to_belong_to_them() -> None:
    def runs(name: str, ratios: Sequence[float]) -> Published:
        rows = [
            arm(recipe, 0.1).model_copy(
                update={"gain_per_drift": RatioRow(value=value, low=value, high=value, reason=None)}
            )
            for recipe, value in zip(("dpo", "ppo"), ratios, strict=True)
        ]
        return Published(name, [], Methods(rows=rows, absent={}))

    def text(first: Sequence[float], second: Sequence[float]) -> str:
        core, quick, none = runs("core", first), runs("quick", second), Published("", [], None)
        found = {"core": core, "quick": quick}
        return "\n".join(questions.section(defaultdict(lambda: none, found)))

    assert "The order differs" in text((3.0, 2.0), (2.0, 3.0))
    assert "The order differs" not in text((3.0, 2.0), (5.0, 4.0))


def test_scatter_is_asked_of_every_recipe_of_es() -> None:
    def cells(recipe: str, scatter: float) -> list[Scorecard]:
        gains = [0.1 + scatter * step for step in (-1.5, -0.5, 0.5, 1.5)]
        return [
            card(recipe, [point(1.0, gain, 0.1)]).model_copy(update={"seed": seed})
            for seed, gain in enumerate(gains)
        ]

    def status(*scatter: float) -> str:
        names = ("grpo", "es-16", "es-64")
        found = [one for pair in zip(names, scatter, strict=True) for one in cells(*pair)]
        return evolution.steadier(Published("es-forgetting", found, None)).status

    assert status(0.04, 0.001, 0.001) == "reproduced"
    assert status(0.04, 0.001, 0.04) == "undecided"
    assert status(0.001, 0.001, 0.04) == "contradicted"


def test_one_look_of_several_must_be_clear_enough_for_all() -> None:
    clear, edge, none = (finding.Difference(interval(0.1), p) for p in (0.01, 0.04, 0.9))
    contrary = finding.Difference(interval(-0.1), 0.01)
    assert finding.by_sign([edge], 1) == "reproduced"
    assert finding.by_sign([edge, none, none], 1) == "undecided"
    assert finding.by_sign([clear, none, none], 1) == "reproduced"
    assert finding.by_sign([clear, contrary], 1) == "undecided"
    assert finding.by_sign([contrary, none, none], 1) == "contradicted"


def test_drift_ratios_are_of_one_seed() -> None:
    """The seed of grpo without a partner must not be paired with another one."""
    es, grpo = seeds_of("es-16", [0.4, 0.4, 0.4]), seeds_of("grpo", [0.01, 0.01, 0.01, 9.0])
    found = drift.at_equal_gain(Published("es-forgetting", [*es, *grpo], None))
    assert "es-16 40.0 [40.0, 40.0]" in "; ".join(found.measured)
    alone = Published("es-forgetting", [*es, grpo[3]], None)
    assert drift.at_equal_gain(alone).measured == ["no rows"]


def trajectory(recipe: str, seed: int, drops: Sequence[float]) -> Scorecard:
    """One axis that loses so much at its checkpoints."""
    lost = [
        AxisChange(
            axis="general",
            tasks=1,
            n=9,
            base_score=0.9,
            candidate_score=0.9 - drop,
            drop=interval(drop),
            lost=0,
            gained=0,
        )
        for drop in drops
    ]
    shares = np.linspace(0, 1, len(drops) + 1)[1:]
    points = [
        point(share, 0.1, 0.1).model_copy(update={"axes": [axis]})
        for share, axis in zip(shares, lost, strict=True)
    ]
    return card(recipe, points).model_copy(update={"seed": seed})


@pytest.mark.parametrize(
    ("runs", "status"),
    [
        ([(0.1, 0.3, 0.1), (0.1, 0.31, 0.1), (0.1, 0.29, 0.1)], "reproduced"),
        ([(0.1, 0.2, 0.3), (0.1, 0.2, 0.3), (0.1, 0.2, 0.3)], "contradicted"),
        ([(0.1, 0.3, 0.1), (0.1, 0.2, 0.3), (0.3, 0.1, 0.2)], "undecided"),
        ([(0.1, 0.3, 0.1), (0.1, 0.3, 0.1)], "undecided"),
    ],
    ids=["comes back", "only grows", "differs", "two seeds"],
)
def test_what_comes_back_is_judged_at_the_worst_checkpoint_of_other_seeds(
    runs: Sequence[Sequence[float]], status: str
) -> None:
    cells = [trajectory("grpo", seed, drops) for seed, drops in enumerate(runs)]
    row = arm("grpo", 0.1).model_copy(update={"drops": {"general": interval(0.1)}})
    found = Published("es-forgetting", cells, Methods(rows=[row], absent={}))
    assert evolution.recovers(found).status == status


def test_a_method_that_loses_at_the_edge_of_its_rates_decides_nothing() -> None:
    def runs(best: str) -> Published:
        gains = {"sft-1e-4": 0.1, "sft-3e-4": 0.3, "sft-1e-3": 0.1, "dft-1e-4": 0.01}
        gains |= {"dft-3e-4": 0.01, "dft-1e-3": 0.01, best: 0.05}
        rows = [arm(name, gain) for name, gain in gains.items()]
        pairs = [pair(best, "sft-3e-4", "gain", -0.25)]
        return Published("facts", [], Methods(rows=rows, absent={}, pairs=pairs))

    inside, edge = (imitation.dft_on_a_skill(runs(f"dft-{rate}")) for rate in ("3e-4", "1e-3"))
    assert inside.status == "contradicted"
    assert edge.status == "undecided"
    assert "dft-1e-3 is at the edge of its rates" in edge.measured


def test_seeds_of_a_recipe_are_no_further_evidence() -> None:
    """Five equal seeds of every recipe leave the limits where one seed has them."""
    draws = np.random.default_rng(0)
    once = [draws.normal(size=(1, 2)) for _ in range(12)]
    five = [np.repeat(rows, 5, axis=0) for rows in once]

    def order(table: np.ndarray) -> float:
        return resampling.rank_correlation(table[:, 0], table[:, 1])

    assert resampling.bootstrap(five, order) == pytest.approx(resampling.bootstrap(once, order))


@pytest.mark.parametrize(("order", "status"), [(-1, "reproduced"), (1, "undecided")])
def test_a_worse_order_is_no_missing_order(order: int, status: str) -> None:
    """KL elsewhere orders the drops of all recipes, KL on the new task in part or the other way."""
    draws = np.random.default_rng(0)

    def cells(start: str) -> list[Scorecard]:
        found = []
        for n in range(1, 13):
            on = order * n + 20.0 + draws.normal(0.0, 10.0)
            axis = AxisChange(
                axis="general",
                tasks=1,
                n=1,
                base_score=1.0,
                candidate_score=1.0,
                drop=interval(n / 100),
                lost=0,
                gained=0,
                margin=0.05,
                verdict="PASS",
                reasons=[],
            )
            kl = DivergenceSummary(
                forward={"target": on, "general": float(n)}, reverse={}, tokens={}, estimator=""
            )
            last = point(1.0, 0.1, 0.1).model_copy(update={"axes": [axis], "divergence": kl})
            found.append(card(f"{start}-{n}", [last]))
        return found

    own, more = (Published(name, cells(name), None) for name in ("frontier", "es-forgetting"))
    assert divergence.kl_across_families(own, more).status == status


@pytest.mark.parametrize(
    ("grpo", "exact", "status"),
    [(0.9, 0.0, "reproduced"), (0.3, 0.0, "contradicted"), (0.9, 0.5, "contradicted")],
)
def test_sparsity_can_be_contradicted_by_either_part(
    grpo: float, exact: float, status: str
) -> None:
    def ended(recipe: str, rounded: float) -> Scorecard:
        last = point(1.0, 0.1, 0.1)
        assert last.drift is not None
        update = {"unchanged_bf16": rounded, "unchanged_exact": exact}
        drift = last.drift.model_copy(update=update)
        return card(recipe, [last.model_copy(update={"drift": drift})])

    runs = Published("frontier", [ended("grpo-1e-4", grpo), ended("sft-1e-4", 0.1)], None)
    assert policy.sparse(runs).status == status


def test_what_is_missing_costs_what_its_methods_took_elsewhere(tmp_path: Path) -> None:
    names = ["quick", "frontier"]
    known, unknown = (published.read(at, names)["frontier"] for at in (RESULTS.parent, tmp_path))
    assert known.expected_hours
    assert unknown.expected_hours is None
    assert finding.missing(known).needs.startswith("`retainbench run frontier`, about ")
    assert finding.missing(unknown).needs == "`retainbench run frontier`"


def test_more_seeds_are_counted_by_the_width() -> None:
    """Twice as wide as its distance from 0: four times the seeds."""
    runs = Published("frontier", [card("sft-1e-4", [point(1.0, 0.1, 0.1)])], None)
    wide, hopeless = (finding.Difference(interval(value, 0.02), 0.4) for value in (0.01, 0.001))
    assert finding.seeds_to_decide(runs, [wide]).startswith("3 more seeds of `frontier`")
    assert finding.seeds_to_decide(runs, [wide], -0.01).startswith("2 more seeds")
    assert finding.seeds_to_decide(runs, [hopeless]).startswith("more than 20 seeds")


@pytest.mark.parametrize(
    ("ends", "status"), [(28, "reproduced"), (27, "undecided"), (0, "contradicted")]
)
def test_ranks_are_those_at_the_end_of_every_run(tmp_path: Path, ends: int, status: str) -> None:
    """A singular value at the tolerance on the way is counted and decides nothing."""
    rows = [
        rank.RankRow(cell=cell, updates=updates, directions=32 * updates, matrices=28, full=full,
                     stable_rank=30.0, smallest_side=128)
        for cell in ("a", "b")
        for updates, full in ((2, 0), (50, 27), (100, ends))
    ]  # fmt: skip
    storage.write_json(tmp_path / rank.FILE, rank.Ranks(rows=rows))
    found = rank.full_rank(Published("claims", [], None, tmp_path))
    assert found.status == status
    assert f"{2 * ends} of 56 matrices" in "; ".join(found.measured)
    assert f"{54 + 2 * ends} of 112 at all 4 checkpoints" in "; ".join(found.measured)


@pytest.mark.parametrize(
    ("value", "needs"),
    [(0.3, "6 more recipes, about 0.0 CPU"), (0.45, "more than 100 recipes (about 0.0 CPU")],
)
def test_recipes_that_would_tell_an_estimate_from_its_bound(value: float, needs: str) -> None:
    """20 (.225 / .2)^2 = 25.3 recipes narrow the first to its distance from .5."""
    one = resampling.BootstrapEstimate(value, value - 0.2, value + 0.25)
    found = resampling.recipes_to_decide([(one, 0.5)], 20, [Published("frontier", [], None)])
    assert found.startswith(needs)


def test_seeds_that_would_tell_a_scatter() -> None:
    """Nine seeds tell 2.43 from 1, for sqrt(F(.9875; 8, 8)) = 2.37, and eight do not: 2.54."""
    runs = Published("es-forgetting", seeds_of("es-16", [0.4] * 5), None)
    assert evolution.seeds_to_tell(runs, 2.43, 4).startswith("4 more seeds")
    assert evolution.seeds_to_tell(runs, 1.1, 4).startswith("more than 20 more seeds")
