"""Sentences about results follow from stored inference, and nobody edits them by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from fixtures import report as fixtures
from retainbench.harness.comparison.seed_tables import PairRow
from retainbench.harness.core import paths
from retainbench.harness.core.changes import Interval
from retainbench.harness.core.recipes import Recipes, SweepChoice
from retainbench.harness.report import publish, report
from retainbench.harness.report.conclusions import conclusions, short
from retainbench.harness.report.table.columns import Table, table
from retainbench.harness.report.table.evidence import NOTHING, CellVerdict, TableEvidence
from retainbench.harness.report.table.rows import rows

CARDS = [c for c in fixtures.scorecards(seeds=(0,), failed=()) if c.target == "countdown"]


def evidence(**holm: float) -> TableEvidence:
    """Every recipe against sft-grpo, the one with the largest gain, with given p."""
    interval = Interval(value=0.01, low=-0.01, high=0.03, level=0.9, n=400, method="paired")
    pairs = [
        PairRow(
            target="countdown",
            first=name.replace("_", "-"),
            second="sft-grpo",
            measure="gain",
            difference=interval,
            p=p,
            holm_p=p,
            equivalent=False,
            margin=0.02,
        )
        for name, p in holm.items()
    ]
    verdicts = {
        card.cell: CellVerdict(verdict="REGRESSION" if card.recipe == "sft" else "PASS", reasons=[])
        for card in CARDS
    }
    return TableEvidence(verdicts, {}, pairs=pairs)


def shown(found: TableEvidence) -> Table:
    return table(rows(CARDS, found))


def test_a_difference_that_is_not_shown_is_not_claimed() -> None:
    found = evidence(sft=0.5, es=0.001, dft=0.001)
    sentences = conclusions(shown(found), found)
    assert sentences[0].startswith("On countdown sft-grpo gains most, +27.3 [24.3, 30.3] pp")
    assert sentences[0].endswith("pp; more is not shown than for sft.")
    assert "differ after Holm's correction" in sentences[-2]
    assert "gain 2 (0)" in sentences[-2]
    every = evidence(sft=0.001, es=0.001)
    assert "more than each of the other 2." in conclusions(shown(every), every)[0]


def test_verdicts_losses_and_seeds_are_named() -> None:
    found = evidence(sft=0.5)
    text = " ".join(conclusions(shown(found), found))
    assert "REGRESSION for sft; PASS for sft-lora, dft, grpo, es and 1 more." in text
    assert "On numeric tasks sft loses most" in text
    assert text.endswith("One seed: all of this is about these runs, not about the methods.")
    assert short(shown(found), found).endswith("Regressions: sft.")


def test_a_verdict_of_some_seeds_says_of_how_many() -> None:
    cards = [c for c in fixtures.scorecards(seeds=(0, 1), failed=()) if c.target == "countdown"]
    harmed = {c.cell for c in cards if c.recipe == "sft" or (c.recipe == "es" and c.seed == 1)}
    verdicts = {
        c.cell: CellVerdict(verdict="REGRESSION" if c.cell in harmed else "PASS", reasons=[])
        for c in cards
    }
    found = TableEvidence(verdicts, {}, pairs=[])
    text = " ".join(conclusions(table(rows(cards, found)), found))
    assert "REGRESSION for sft and es (1 of 2 seeds); PASS for sft-lora, dft, grpo, es" in text
    assert short(table(rows(cards, found)), found).endswith(
        "Regressions: sft and es (1 of 2 seeds)."
    )


def test_a_reward_that_rises_by_form_says_so() -> None:
    found = evidence(sft=0.5)
    plain = shown(found).rows
    readable = [
        row.model_copy(update={"base_valid": 0.5, "candidate_valid": 1.0, "candidate_reward": 0.1})
        if row.recipe == "grpo"
        else row.model_copy(update={"base_valid": 0.5, "candidate_valid": 0.52})
        for row in plain
    ]
    sentence = next(line for line in conclusions(table(readable), found) if "form" in line)
    base = f"base 50 % ({100 * (plain[0].base_reward or 0.0):.1f} %)"
    assert sentence.endswith(f"in parentheses: {base}, grpo 100 % (10.0 %).")
    assert not any("form" in line for line in conclusions(shown(found), found))


def test_options_that_a_sweep_chose_are_named() -> None:
    tried = SweepChoice(
        recipe="sft", target="countdown", stage=0, option="rate", value=1, factor=1, variants=[]
    )
    found = evidence(sft=0.5)._replace(recipes=Recipes(recipes={}, choices=[tried]))
    assert conclusions(shown(found), found)[-1].startswith("A sweep chose options of 1 recipe for")


def test_one_answer_to_every_item_is_no_skill() -> None:
    found = evidence(sft=0.5)
    alike = {"base_commonest": 1.0, "candidate_commonest": 0.95}
    changed = [
        row.model_copy(update=alike) if row.recipe in ("grpo", "es") else row
        for row in shown(found).rows
    ]
    sentence = "responses to countdown are the same after grpo and es: that reward shows no skill"
    assert sentence in " ".join(conclusions(table(changed), found))
    assert sentence in short(table(changed), found)
    assert "the same" not in short(shown(found), found)


def test_two_recipes_are_compared_by_name_and_one_with_none() -> None:
    found = evidence(sft=0.001)
    both = [row for row in shown(found).rows if row.recipe in ("sft", "sft-grpo")]
    sentences = conclusions(table(both), found)
    assert sentences[0].startswith("On countdown sft-grpo gains most, ")
    assert sentences[0].endswith(" pp, more than sft.")
    assert not any("this many differ" in sentence for sentence in sentences)
    alone = conclusions(table(both[:1]), NOTHING)
    assert alone[0].startswith("On countdown sft gains +")
    assert not any("most" in sentence for sentence in alone)


def test_what_the_gate_does_not_pass_is_not_called_harmless() -> None:
    """No regression and no pass either: too few items decide nothing."""
    rows_ = [
        row.model_copy(update={"verdicts": {word: 1}})
        for row, word in zip(rows(CARDS)[:2], ("PASS", "INCONCLUSIVE"), strict=True)
    ]
    text = short(table(rows_), NOTHING)
    assert text.endswith("No regression is shown; the gate passes 1 of 2 recipes.")


@pytest.mark.parametrize(
    ("value", "lower"), [(0.01, ""), (-0.1, " The reward is lower than the base's after sft.")]
)
def test_without_a_gain_none_is_claimed(value: float, lower: str) -> None:
    none = [card for card in CARDS if card.recipe == "sft"]
    flat = Interval(value=value, low=value - 0.02, high=value + 0.02, level=0.9, n=400, method="t")
    end = none[0].points[-1].model_copy(update={"gain": flat})
    cards = [none[0].model_copy(update={"points": [*none[0].points[:-1], end]})]
    expected = f"On countdown no gain is shown: no interval is above 0.{lower}"
    assert " ".join(conclusions(table(rows(cards)), NOTHING)).startswith(expected)
    assert short(table(rows(cards)), NOTHING).startswith(expected)


def test_a_wide_interval_does_not_hide_the_gain_of_another_recipe() -> None:
    wide = Interval(value=0.9, low=-0.1, high=1.0, level=0.9, n=400, method="t")
    vague, sure = (next(c for c in CARDS if c.recipe == name) for name in ("sft", "sft-grpo"))
    end = vague.points[-1].model_copy(update={"gain": wide})
    vague = vague.model_copy(update={"points": [*vague.points[:-1], end]})
    assert conclusions(table(rows([vague, sure])), NOTHING)[0].startswith("On countdown sft-grpo")


def test_an_edited_sentence_is_noticed(tmp_path: Path) -> None:
    run = fixtures.write_run(tmp_path / "run", CARDS, items=4).root
    out = tmp_path / "published"
    publish.publish(run, out)
    page = (out / "README.md").read_text(encoding="utf-8")
    assert page == publish.readme(out)
    sentence = conclusions(report.load_table(out), NOTHING)[0]
    assert f"- {sentence}" in page
    assert page.replace("gains most", "wins") != publish.readme(out)


def test_the_list_of_results_is_made_from_the_tables() -> None:
    text = (paths.PACKAGE / "results" / "README.md").read_text(encoding="utf-8")
    assert publish.with_tables(text) == text
    edited = text.replace("gains most", "wins")
    assert edited != text
    assert publish.with_tables(edited) == text
