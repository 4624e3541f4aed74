"""The claims of METHODS 17 and the central one of the seed, each with the question to the rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from results.claims import divergence, drift, evolution, finding, imitation, policy, rank, stages
from results.claims.finding import Finding
from results.claims.published import Published
from retainbench.harness.comparison.seed_tables import MARGIN

PAGE = "claims"
"""The page's own folder, which holds the ranks of C13."""
Runs = Mapping[str, Published]
POINTS = f"{100 * MARGIN:g} points"
"""The margin of what counts as equal."""
FLOWS = ("frontier", "es-forgetting", "quick", "facts", "lora-ranks", "core", "staged")
"""The suites of fruitfly whose flips C14 counts: those that teach countdown or facts."""


class Claim(NamedTuple):
    """A published claim; METHODS 17 has the same list."""

    name: str
    statement: str
    source: str
    rule: str
    """What the rows must show for it to be reproduced; the opposite contradicts."""
    caveat: str
    holds: str
    """What it means in plain words where it is reproduced."""
    fails: str
    """The same where it is contradicted."""
    ask: Callable[[Runs], Finding]


CLAIMS = (
    Claim(
        "C1",
        "ES drifts far more than GRPO at the same gain, by a factor above 10",
        "arXiv:2601.20861, 2605.30148",
        "for every recipe of ES without an anchor whose gain is shown, drift over that of GRPO "
        f"is above {drift.DRIFT_RATIO:g} where each seed first has half of the smaller best gain; "
        "one recipe below contradicts",
        "one rate for each recipe, not swept, on which the factor depends; the papers have 90 to "
        "1,000; limits over seeds; the question was changed when three seeds were known: before, "
        "it was asked of es-16 alone, by the limits of its gains",
        "At the same gain, ES had moved the weights more than ten times as far as GRPO.",
        "At the same gain, a recipe of ES had moved the weights less than ten times as far as "
        "GRPO: the factor belongs to the recipe.",
        lambda runs: drift.at_equal_gain(runs["es-forgetting"]),
    ),
    Claim(
        "C2",
        "The drift of ES is a random walk: it grows with the square root of the updates",
        "arXiv:2601.20861",
        "for every run of ES without an anchor, drift over that of a random walk is within "
        f"{finding.range_text(*drift.WALK)} at all checkpoints, and the slope within "
        f"{finding.range_text(*drift.SQUARE_ROOT)}",
        "among a million weights noise directions are all but orthogonal, so that whatever "
        "follows them drifts like this",
        "ES moves like a random walk: four times the updates, twice the distance.",
        "ES did not move like a random walk.",
        lambda runs: drift.random_walk(runs["es-forgetting"]),
    ),
    Claim(
        "C3",
        "A larger ES population forgets less",
        "arXiv:2605.30148",
        "es-64 loses less than es-16 on an axis, more on none, gains something, and at most "
        f"{POINTS} less",
        "at one rate, not swept, and equal FLOPs: the larger population makes half as many "
        "updates on half the prompts, and drifts less for that alone",
        "Four times the population, at the same rate and cost, forgot less and gained no less.",
        "At the same rate and cost, the larger population forgot more or gained less.",
        lambda runs: evolution.larger_population(runs["es-forgetting"]),
    ),
    Claim(
        "C4",
        "Decay towards the base lets ES forget less and keeps its gain",
        "arXiv:2605.30148",
        "of es-16 and of eggroll-64, the one with an anchor loses less on an axis, more on none, "
        f"gains something, and at most {POINTS} less",
        "one strength of each anchor and one rate, not swept; EGGROLL's was added to the "
        "question when three seeds were known",
        "Pulling the weights back to the base let ES forget less and gain as much.",
        "The anchor did not reduce forgetting, or it cost gain.",
        lambda runs: evolution.anchored(runs["es-forgetting"]),
    ),
    Claim(
        "C5",
        "DFT gains more than SFT on reasoning",
        "arXiv:2508.05629",
        "the difference of gains excludes 0; none where the best rate of the loser is at the edge",
        "each at the best of equal rates, chosen on the test items of both",
        "On a skill, trusting the base's probabilities (DFT) taught more than plain SFT.",
        "On a skill, plain SFT taught more than DFT.",
        lambda runs: imitation.dft_on_a_skill(runs["facts"]),
    ),
    Claim(
        "C6",
        "DFT gains less than SFT on facts that are new",
        "arXiv:2508.05629",
        "the difference of gains excludes 0; none where the best rate of the loser is at the edge",
        "each at the best of equal rates, chosen on the test items of both",
        "On facts that the base cannot know, DFT taught less than plain SFT.",
        "On facts that the base cannot know, DFT taught more than plain SFT.",
        lambda runs: imitation.dft_on_facts(runs["facts"]),
    ),
    Claim(
        "C7",
        "LoRA learns less and forgets less than full training",
        "arXiv:2405.09673",
        "every rank gains less than full training, and loses less on an axis and more on none; "
        "one rank that does the contrary contradicts",
        "one rate for all ranks and another for full training, which gains more at 1e-3 "
        "(`frontier`); the question was changed when the rows were known: before, it was asked "
        "of rank 1 alone",
        "LoRA of every rank gained less than full training and forgot less.",
        "LoRA of one rank at least gained more than full training, or forgot more.",
        lambda runs: imitation.learns_and_forgets_less(runs["lora-ranks"]),
    ),
    Claim(
        "C8",
        "On-policy data forget less at the same gain",
        "arXiv:2510.18874, 2509.04259",
        "SFT loses more than GRPO on an axis, less on none, where each first has half of the "
        "lower best gain",
        "one rate each, not swept: at this rate of GRPO a smaller one gains more and loses less "
        "in `frontier`; the same gain is passed early, where GRPO loses most of what it loses",
        "At the same gain and one rate each, RL on the model's own answers forgot less than SFT "
        "on given ones.",
        "At the same gain and one rate each, RL on the model's own answers forgot more than SFT "
        "on given ones.",
        lambda runs: policy.forgets_less_on_policy(runs["frontier"], runs["es-forgetting"]),
    ),
    Claim(
        "C9",
        "KL on the new task predicts forgetting",
        "arXiv:2509.04259",
        f"the rank correlation is above {divergence.PREDICTS:g}",
        "the paper has R² .71 and more; drift orders drops as well; recipes are resampled, not "
        "items",
        "The further answers on the new task were from the base's, the more was forgotten.",
        "How far answers on the new task were from the base's says little about forgetting.",
        lambda runs: divergence.kl_predicts(runs["frontier"]),
    ),
    Claim(
        "C10",
        "With ES in the pool, KL on the new task no longer orders methods, KL elsewhere does",
        "arXiv:2605.30148, 2601.20861",
        f"KL elsewhere has the larger rank correlation, which is above {divergence.PREDICTS:g}, "
        "and that of KL on the new task is below it",
        "recipes of two budgets in one pool; the rule was sharpened when the rows were known: "
        "before, KL on the new task only had to be the worse of the two",
        "Across SFT, RL and ES, KL on the retention prompts orders forgetting and KL on the new "
        "task does not.",
        "With ES in the pool, KL on retention prompts does not order forgetting better.",
        lambda runs: divergence.kl_across_families(runs["frontier"], runs["es-forgetting"]),
    ),
    Claim(
        "C11",
        "SFT brings valid answers, the RL stage brings the score",
        "arXiv:2509.24803",
        "in every seed the SFT stage has more valid answers than the base, and the RL stage more "
        "reward for a valid answer than the SFT stage",
        "the better of two rates of RL, chosen on the test items; a valid answer that is wrong "
        "earns 0.1, an invalid one 0; the question was changed when the rows were known: before, "
        "the second part asked for reward, which valid answers alone bring",
        "SFT taught the form of the answer, RL after it the right answer.",
        "The SFT stage brought fewer valid answers, or RL after it made valid ones worse.",
        lambda runs: stages.stages(runs["staged"]),
    ),
    Claim(
        "C12",
        "RL leaves most weights unchanged, but only as bfloat16 shows them",
        "arXiv:2505.11711, 2509.04259",
        f"in every run of GRPO at least {100 * policy.SPARSE:g} % of the weights are unchanged as "
        f"bfloat16, and in every run at most {100 * policy.DENSE:g} % in float32",
        "trained in float32, rounded afterwards; rates from 1e-4 to 5e-4, and Adam moves a "
        "weight by about its rate: smaller ones leave more unchanged",
        "RL changes nearly every weight a little; rounding to bfloat16 hides it.",
        "RL changed most weights even as bfloat16 shows them, or left them unchanged in float32 "
        "too.",
        lambda runs: policy.sparse(runs["frontier"]),
    ),
    Claim(
        "C13",
        "Low-rank ES adds up to updates of full rank",
        "arXiv:2511.16652",
        "every matrix has full numerical rank at the end of every run",
        "numerical rank, which random directions reach almost surely; the stable rank is lower",
        "Many rank-one steps added up to changes of full rank.",
        "The rank-one steps did not add up to full rank.",
        lambda runs: rank.full_rank(runs[PAGE]),
    ),
    Claim(
        "C14",
        "Averages hide flows: far more items change than the net change shows",
        "arXiv:2510.17776",
        "over runs without a regression on an axis, changed items are more than "
        f"{policy.MUCH_LARGER:g} times the net change",
        "limits over recipes; the cells are chosen by their small net change, and with it a "
        "large ratio; scored again, the base itself changes no item here",
        "At least twice as many answers flip as the averages show.",
        "The averages show most of what flips.",
        lambda runs: policy.flows(*(runs[name] for name in FLOWS)),
    ),
    Claim(
        "C15",
        "ES is steadier over seeds than GRPO",
        "arXiv:2509.24372",
        "every recipe of ES without an anchor scatters less than GRPO; one that scatters more "
        "contradicts",
        "from few seeds a standard deviation is known to a factor of two at best; the question "
        "was changed when the rows were known: before, it was asked of es-16 alone",
        "ES ended with less scatter over seeds than GRPO.",
        "ES ended with more scatter over seeds than GRPO.",
        lambda runs: evolution.steadier(runs["es-forgetting"]),
    ),
    Claim(
        "C16",
        "Retention recovers while training goes on",
        "arXiv:2605.30148",
        "on one axis of one recipe the drop at the worst checkpoint is above that at the end; "
        f"that none can be so by {POINTS} contradicts",
        "limits over seeds; the question was changed when three seeds were known: before, the "
        "worst checkpoint was that of the same run, with limits wide enough for the choice",
        "What was lost on the way came back in part before the end.",
        f"Within the budget less than {POINTS} of what was lost on the way came back.",
        lambda runs: evolution.recovers(runs["es-forgetting"]),
    ),
    Claim(
        "Seed",
        "ES can match the reward of RL while its drift erodes other skills",
        "arXiv:2601.20861",
        f"one recipe of ES without an anchor gains at most {POINTS} less than GRPO, and loses "
        "more on an axis and less on none",
        "at equal FLOPs, where the budget ends, for some before their plateau; one rate each, "
        "not swept; the question was changed when the rows were known: before, another recipe "
        "could match the reward than the one that loses more",
        "ES reached the reward of GRPO and lost more of what the base knew.",
        "At equal cost no recipe of ES both reached the reward of GRPO and lost more.",
        lambda runs: evolution.forgets_more_than_grpo(runs["es-forgetting"]),
    ),
)
