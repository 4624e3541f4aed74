"""The claims of METHODS 17 and the central one of the seed, each with the question to the rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from results.claims import divergence, drift, evolution, imitation, policy, rank
from results.claims.finding import Finding
from results.claims.published import Published

PAGE = "claims"
"""The page's own folder, which holds the ranks of C13."""
Runs = Mapping[str, Published]
FLOWS = ("frontier", "es-forgetting", "quick", "facts", "lora-ranks", "core", "staged")
"""All published runs of fruitfly (C14)."""


class Claim(NamedTuple):
    """A published claim; METHODS 17 has the same list."""

    name: str
    statement: str
    source: str
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
        "the factor depends on learning rate and population; the papers have 90 to 1,000; limits "
        "over seeds; the question was changed when three seeds were known: before, it was asked "
        "of es-16 alone, by the limits of its gains",
        "At the same gain, ES had moved the weights more than ten times as far as GRPO.",
        "At the same gain, a recipe of ES had moved the weights less than ten times as far as "
        "GRPO: the factor belongs to the recipe.",
        lambda runs: drift.at_equal_gain(runs["es-forgetting"]),
    ),
    Claim(
        "C2",
        "The drift of ES is a random walk: it grows with the square root of the updates",
        "arXiv:2601.20861",
        "anchored runs are left out; among a million weights noise directions are all but "
        "orthogonal, so that whatever follows them drifts like this",
        "ES moves like a random walk: four times the updates, twice the distance.",
        "ES did not move like a random walk.",
        lambda runs: drift.random_walk(runs["es-forgetting"]),
    ),
    Claim(
        "C3",
        "A larger ES population forgets less",
        "arXiv:2605.30148",
        "equal FLOPs: the larger population makes half as many updates on half the prompts",
        "Four times the population, at the same cost, forgot less and gained no less.",
        "The larger population forgot more, or paid for it with gain.",
        lambda runs: evolution.larger_population(runs["es-forgetting"]),
    ),
    Claim(
        "C4",
        "Decay towards the base lets ES forget less and keeps its gain",
        "arXiv:2605.30148",
        "one strength of each anchor; EGGROLL's was added to the question when three seeds were "
        "known",
        "Pulling the weights back to the base let ES forget less and gain as much.",
        "The anchor did not reduce forgetting, or it cost gain.",
        lambda runs: evolution.anchored(runs["es-forgetting"]),
    ),
    Claim(
        "C5",
        "DFT gains more than SFT on reasoning",
        "arXiv:2508.05629",
        "each at the best of equal rates, chosen on the test items of both",
        "On a skill, trusting the base's probabilities (DFT) taught more than plain SFT.",
        "On a skill, plain SFT taught more than DFT.",
        lambda runs: imitation.dft_on_a_skill(runs["facts"]),
    ),
    Claim(
        "C6",
        "DFT gains less than SFT on facts that are new",
        "arXiv:2508.05629",
        "as C5",
        "On facts that the base cannot know, DFT taught less than plain SFT.",
        "On facts that the base cannot know, DFT taught more than plain SFT.",
        lambda runs: imitation.dft_on_facts(runs["facts"]),
    ),
    Claim(
        "C7",
        "LoRA learns less and forgets less than full training",
        "arXiv:2405.09673",
        "one rate for all ranks, another for full training",
        "LoRA of rank 1 gained less than full training and forgot less.",
        "LoRA of rank 1 did not gain less and forget less than full training.",
        lambda runs: imitation.learns_and_forgets_less(runs["lora-ranks"]),
    ),
    Claim(
        "C8",
        "On-policy data forget less at the same gain",
        "arXiv:2510.18874, 2509.04259",
        "of each family the rate with the smallest drop, chosen on the items that it is judged on; "
        "one rate each where the frontier does not reach that far",
        "At the same gain, RL on the model's own answers forgot less than SFT on given ones.",
        "At the same gain, RL on the model's own answers forgot more than SFT on given ones.",
        lambda runs: policy.forgets_less_on_policy(runs["frontier"], runs["es-forgetting"]),
    ),
    Claim(
        "C9",
        "KL on the new task predicts forgetting",
        "arXiv:2509.04259",
        "recipes are resampled, not items",
        "The further answers on the new task were from the base's, the more was forgotten.",
        "How far answers on the new task were from the base's says little about forgetting.",
        lambda runs: divergence.kl_predicts(runs["frontier"]),
    ),
    Claim(
        "C10",
        "With ES in the pool, KL on the new task no longer orders methods, KL elsewhere does",
        "arXiv:2605.30148, 2601.20861",
        "recipes of two budgets in one pool",
        "Across SFT, RL and ES only KL on the retention prompts orders forgetting.",
        "With ES in the pool, KL on retention prompts does not order forgetting better.",
        lambda runs: divergence.kl_across_families(runs["frontier"], runs["es-forgetting"]),
    ),
    Claim(
        "C11",
        "SFT brings valid answers, the RL stage brings the score",
        "arXiv:2509.24803",
        "the better of two rates of RL, chosen on the test items; an invalid answer earns 0",
        "SFT taught the form of the answer, RL after it the right answer.",
        "SFT did not bring the form, or RL after it not the score.",
        lambda runs: policy.stages(runs["staged"]),
    ),
    Claim(
        "C12",
        "RL leaves most weights unchanged, but only as bfloat16 shows them",
        "arXiv:2505.11711, 2509.04259",
        "trained in float32, rounded afterwards",
        "RL changes nearly every weight a little; rounding to bfloat16 hides it.",
        "RL does not leave most weights unchanged in bfloat16, or leaves them so in float32 too.",
        lambda runs: policy.sparse(runs["frontier"]),
    ),
    Claim(
        "C13",
        "Low-rank ES adds up to updates of full rank",
        "arXiv:2511.16652",
        "numerical rank, which random directions reach almost surely; the stable rank is lower",
        "Many rank-one steps added up to changes of full rank.",
        "The rank-one steps did not add up to full rank.",
        lambda runs: rank.full_rank(runs[PAGE]),
    ),
    Claim(
        "C14",
        "Averages hide flows: far more items change than the net change shows",
        "arXiv:2510.17776",
        "the cells are chosen by their small net change, and with it a large ratio; scored again, "
        "the base itself changes no item here",
        "At least twice as many answers flip as the averages show.",
        "The averages show most of what flips.",
        lambda runs: policy.flows(*(runs[name] for name in FLOWS)),
    ),
    Claim(
        "C15",
        "ES is steadier over seeds than GRPO",
        "arXiv:2509.24372",
        "scatter is known to a factor of two from four seeds",
        "ES ended with less scatter over seeds than GRPO.",
        "ES ended with more scatter over seeds than GRPO.",
        lambda runs: evolution.steadier(runs["es-forgetting"]),
    ),
    Claim(
        "C16",
        "Retention recovers while training goes on",
        "arXiv:2605.30148",
        "limits over seeds; the question was changed when three seeds were known: before, the "
        "worst checkpoint was that of the same run, with limits wide enough for the choice",
        "What was lost on the way came back in part before the end.",
        "Nothing that was lost on the way came back.",
        lambda runs: evolution.recovers(runs["es-forgetting"]),
    ),
    Claim(
        "Seed",
        "ES can match the reward of RL while its drift erodes other skills",
        "arXiv:2601.20861",
        "at equal FLOPs, where the budget ends",
        "ES reached the reward of GRPO and lost more of what the base knew.",
        "At equal cost ES did not reach the reward of GRPO, or it lost less.",
        lambda runs: evolution.forgets_more_than_grpo(runs["es-forgetting"]),
    ),
)
