"""Respondents whose knowledge is planted, so that every estimate of forgetting can be checked.

A respondent knows some items and guesses the rest among K choices through its log-likelihoods; the
candidate is the same respondent after a planted share of knowledge is lost, repeating some of its
guesses. Truth is the planted loss. Pure functions; rows are written by build.py.
Shapes: N items, K choices.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from results.statistics.simulation import Row
from retainbench.harness.statistics.flips import flips
from retainbench.harness.statistics.graded import edgeworth_interval
from retainbench.harness.statistics.paired import Floats, paired_counts, tango_interval

NOISE = 0.5  # sd of a choice's log-likelihood on an item that is not known, nats
CERTAIN, UNSURE = 12.0, 3.0  # lead of the gold choice on a known item, nats: p = .9999, .87


class Respondent(NamedTuple):
    """How a pair of checkpoints answers."""

    known_before: float
    known_after: float
    choices: int
    repeated: float
    """Share of the never-known items on which the candidate repeats the base's guess."""
    lead: float
    """Log-likelihood lead of the gold choice on a known item."""


class Answers(NamedTuple):
    """Outcomes and soft scores of base and candidate, (N,) each."""

    base: Floats
    tuned: Floats
    soft_base: Floats
    soft_tuned: Floats


SCENARIOS = tuple(
    Respondent(0.6, after, choices, repeated, lead)
    for after, choices, repeated, lead in (
        (0.60, 4, 0.0, CERTAIN),
        (0.60, 4, 0.8, CERTAIN),
        (0.55, 4, 0.0, CERTAIN),
        (0.55, 4, 0.5, CERTAIN),
        (0.55, 4, 0.8, CERTAIN),
        (0.55, 4, 0.8, UNSURE),
        (0.50, 4, 0.0, CERTAIN),
        (0.55, 2, 0.8, CERTAIN),
    )
)


def answer(model: Respondent, items: int, rng: np.random.Generator) -> Answers:
    """Draw one pair of checkpoints on `items` items; the gold choice is number 0.

    On an item that is not known all choices are exchangeable, so gold is right with chance 1/K and
    its expected probability is 1/K. Lost items are guessed afresh.
    """
    rank = rng.random(items)
    before, after = rank < model.known_before, rank < model.known_after
    noise = rng.normal(0, NOISE, (items, model.choices))
    fresh = rng.normal(0, NOISE, (items, model.choices))
    repeats = (rng.random(items) < model.repeated) & ~before
    again = np.where((repeats | after)[:, None], noise, fresh)
    outcomes = [_score(noise, before, model.lead), _score(again, after, model.lead)]
    return Answers(outcomes[0].right, outcomes[1].right, outcomes[0].soft, outcomes[1].soft)


class _Scored(NamedTuple):
    right: Floats
    soft: Floats


def _score(noise_NK: Floats, known: NDArray[np.bool_], lead: float) -> _Scored:
    logits = noise_NK.copy()
    logits[:, 0] += lead * known
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    right = (np.argmax(logits, axis=1) == 0).astype(np.float64)
    return _Scored(right, weights[:, 0] / weights.sum(axis=1))


def known_forgetting(
    draws: int, seed: int, items: int = 1000, scenarios: tuple[Respondent, ...] = SCENARIOS
) -> list[Row]:
    """Net, soft and chance-adjusted estimates of a planted loss, averaged over draws.

    For each: mean estimate, bias with its Monte Carlo standard error, and for net and soft how
    often the 95% interval of a single run covers the truth. Net and soft are chance-rescaled:
    divided by 1 - 1/K.
    """
    return [
        _scenario_row(model, draws, np.random.default_rng([seed, index]), items)
        for index, model in enumerate(scenarios)
    ]


class _Draw(NamedTuple):
    net: float
    soft: float
    raw_lost: float
    unclipped: float
    clipped: float
    net_covers: bool
    soft_covers: bool


class ExpectedFlips(NamedTuple):
    """Exact expectations under a known model of knowledge and guessing, as shares of the items."""

    lost: float
    gained: float
    guess_allowance: float
    adjusted_forgetting: float
    true_forgetting: float


def expected_flips(
    known_before: float, known_after: float, choices: int, repeated: float
) -> ExpectedFlips:
    """Expected flips when knowledge only shrinks and the rest is guessed among k choices.

    Model: a share known_before of the items is known before, known_after <= known_before of the
    same items after; of the items never known, a share `repeated` gets the same guess twice, the
    others two independent guesses. Shows how far the published adjustment is off: at no change its
    residual is p (1 - p) (k - 1) / k^2 for repeated = 0. Derived in STATISTICS 8.

    >>> [round(x, 5) for x in expected_flips(0.6, 0.55, 4, 0.8)]
    [0.0525, 0.015, 0.03375, 0.01875, 0.05]
    """
    if not 0 <= known_after <= known_before <= 1:
        raise ValueError(f"knowledge may only shrink, got {known_before} -> {known_after}")
    lucky = 1 / choices
    guessed = (1 - known_before) * (1 - repeated) * lucky * (1 - lucky)
    lost = (known_before - known_after) * (1 - lucky) + guessed
    wrong_before, wrong_after = (1 - known_before) * (1 - lucky), (1 - known_after) * (1 - lucky)
    allowance = wrong_before * wrong_after / (choices - 1)
    return ExpectedFlips(lost, guessed, allowance, lost - allowance, known_before - known_after)


def _scenario_row(model: Respondent, draws: int, rng: np.random.Generator, items: int) -> Row:
    truth = model.known_before - model.known_after
    table = np.array([_one(answer(model, items, rng), model.choices, truth) for _ in range(draws)])
    found = dict(zip(_Draw._fields, table.T, strict=True))
    expected = expected_flips(model.known_before, model.known_after, model.choices, model.repeated)
    row: Row = {
        "known_before": model.known_before,
        "known_after": model.known_after,
        "choices": model.choices,
        "repeated_guesses": model.repeated,
        "gold_lead_nats": model.lead,
        "true_loss": truth,
    }
    for name in ("net", "soft", "raw_lost", "unclipped", "clipped"):
        row[f"{name}_mean"] = float(found[name].mean())
        row[f"{name}_bias"] = float(found[name].mean()) - truth
        row[f"{name}_mc_se"] = float(found[name].std(ddof=1)) / math.sqrt(draws)
    row["net_sd"], row["soft_sd"] = (float(found[k].std(ddof=1)) for k in ("net", "soft"))
    row["net_coverage"] = float(found["net_covers"].mean())
    row["soft_coverage"] = float(found["soft_covers"].mean())
    row["unclipped_expected"] = expected.adjusted_forgetting
    return row | {"items": items, "draws": draws}


def _one(answers: Answers, choices: int, truth: float) -> _Draw:
    scale = 1 - 1 / choices
    counts = paired_counts(answers.base, answers.tuned)
    changed = flips(answers.base, answers.tuned, chance=1 / choices)
    soft = (answers.soft_base - answers.soft_tuned) / scale
    net_bounds, soft_bounds = tango_interval(counts, 0.95), edgeworth_interval(soft, 0.95)
    return _Draw(
        net=counts.drop / scale,
        soft=float(soft.mean()),
        raw_lost=changed.lost / counts.n,
        unclipped=changed.adjusted_forgetting,
        clipped=changed.clipped_forgetting,
        net_covers=net_bounds.low <= truth * scale <= net_bounds.high,
        soft_covers=soft_bounds.low <= truth <= soft_bounds.high,
    )
