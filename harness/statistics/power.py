"""How many items and seeds a margin needs, and what a given number can detect.

Planning happens before a run: every function takes a design variance (from the A/A run or a
pilot), never the observed discordance of the run being judged. For binary items the variance of
one paired difference is q - D^2, q = discordance, D = true drop; for graded items put the variance
of d in place of q. Normal approximations, so below a few hundred items read them as orders of
magnitude (2503.01747). Left out: sequential designs; n is fixed in the lock and growing it
after a look is refused.
"""

from __future__ import annotations

import math

from retainbench.harness.statistics.graded import t_quantile
from retainbench.harness.statistics.paired import normal_cdf, normal_quantile, zero_flip_items

POWER = 0.8
MOST_SEEDS = 10_000  # a search that has not ended there is answered with None


def _effort(alpha: float, power: float) -> float:
    """(z_alpha + z_power)^2; 6.182557 at alpha .05, power .8."""
    return (normal_quantile(1 - alpha) + normal_quantile(power)) ** 2


def items_needed(
    margin: float,
    discordance: float,
    true_drop: float = 0.0,
    alpha: float = 0.05,
    power: float = POWER,
) -> int | None:
    """Items for a decision at this power: PASS if D is below the margin, REGRESSION if above.

    n = ceil((z_alpha + z_power)^2 (q - D^2) / (m - D)^2), and never fewer than the items that a
    Tango interval needs when nothing flips at all. None when the true drop is the margin: no
    number of items decides that. Unit: independent items; multiply by the design effect for
    clusters.

    >>> [items_needed(0.02, q) for q in (0.05, 0.10, 0.20)], items_needed(0.02, 0.05, 0.005)
    ([773, 1546, 3092], 1374)
    """
    if true_drop == margin:
        return None
    variance = max(discordance - true_drop**2, 0.0)
    normal = math.ceil(_effort(alpha, power) * variance / (margin - true_drop) ** 2)
    return max(normal, zero_flip_items(margin, alpha) if true_drop < margin else 1)


def minimum_detectable_effect(
    items: float,
    discordance: float,
    alpha: float = 0.05,
    power: float = POWER,
    clusters: float | None = None,
) -> float:
    """Smallest margin that passes with this power when nothing was lost, in score points.

    (z_alpha + z_power) sqrt(q / n) on the scale of all items, floored at the Tango limit for no
    flips, z^2 / (n + z^2), in which clusters count once where items share them. The mistake to
    avoid is 2.8 / sqrt(n q), on the scale of discordant items: 28 points instead of 2.8 at n 1000,
    q .1.

    >>> [round(100 * minimum_detectable_effect(1000, q), 2) for q in (0.05, 0.10, 0.20)]
    [1.76, 2.49, 3.52]
    """
    if items <= 0:
        return math.inf
    z = normal_quantile(1 - alpha)
    normal = math.sqrt(_effort(alpha, power) * discordance / items)
    return max(normal, z * z / ((clusters or items) + z * z))


def power_to_pass(
    items: float, margin: float, discordance: float, true_drop: float = 0.0, alpha: float = 0.05
) -> float:
    """Probability that one task passes: Phi((m - D) sqrt(n / (q - D^2)) - z_alpha).

    0 where so few items could not pass without a single flip.

    >>> round(power_to_pass(773, 0.02, 0.05), 3)
    0.8
    """
    spread = math.sqrt(max(discordance - true_drop**2, 0.0) / items) if items > 0 else math.inf
    if items < zero_flip_items(margin, alpha) or spread == 0:
        return float(items >= zero_flip_items(margin, alpha))
    return normal_cdf((margin - true_drop) / spread - normal_quantile(1 - alpha))


def joint_power(per_task: float, tasks: int) -> float:
    """Probability that all of K independent tasks pass.

    >>> [round(joint_power(0.8, k), 4) for k in (3, 9, 12)]
    [0.512, 0.1342, 0.0687]
    """
    return per_task**tasks


def power_per_task(joint: float, tasks: int) -> float:
    """Power that each of K independent tasks needs for this joint power.

    >>> [round(power_per_task(0.8, k), 4) for k in (3, 9, 12)]
    [0.9283, 0.9755, 0.9816]
    """
    return joint ** (1 / tasks)


def growth_for_joint_power(joint: float, tasks: int, alpha: float = 0.05) -> float:
    """Factor by which items grow when K tasks, not one, must all pass with this power.

    >>> [round(growth_for_joint_power(0.8, k), 2) for k in (3, 9, 12)]
    [1.56, 2.11, 2.25]
    """
    return _effort(alpha, power_per_task(joint, tasks)) / _effort(alpha, joint)


def items_needed_jointly(
    tasks: int, margin: float, discordance: float, alpha: float = 0.05, joint: float = POWER
) -> int | None:
    """Items per task so that all K independent tasks pass together with this power, nothing lost.

    >>> items_needed_jointly(1, 0.02, 0.10), items_needed_jointly(9, 0.02, 0.10)
    (1546, 3265)
    """
    return items_needed(margin, discordance, 0.0, alpha, power_per_task(joint, tasks))


def unpaired_items_needed(
    effect: float,
    between: float,
    within_a: float = 0.0,
    within_b: float = 0.0,
    alpha: float = 0.05,
    power: float = POWER,
) -> float:
    """Items by the two-sided plan of 2411.00640, not rounded.

    n = (z_{alpha/2} + z_power)^2 (omega^2 + sA^2/KA + sB^2/KB) / delta^2. `between` is omega^2, the
    variance of the items' true differences; `within_*` are decoding variances already divided by
    the repeats K.

    >>> round(unpaired_items_needed(0.03, 1 / 9), 3)
    968.997
    """
    effort = (normal_quantile(1 - alpha / 2) + normal_quantile(power)) ** 2
    return effort * (between + within_a + within_b) / effect**2


def repeat_variance(between: float, within: float, repeats: int) -> float:
    """Variance of one item's mean over K decodes: omega^2 + sigma^2 / K (2411.00640).

    >>> round(repeat_variance(0.1, 0.08, 4), 6)
    0.12
    """
    return between + within / repeats


def seeds_needed(
    margin: float,
    seed_variance: float,
    item_variance: float,
    error_variance: float,
    items: int,
    true_drop: float = 0.0,
    alpha: float = 0.05,
    power: float = POWER,
) -> int | None:
    """Training seeds S so that a method's mean drop is shown to be within the margin.

    Smallest S >= 2 with (t_{1-alpha,S-1} + t_{power,S-1})^2 Var(S) <= (m - D)^2 and Var(S) =
    s_S/S + s_I/I + s_E/(S I), the components of `stats_seeds.two_way`. None when items alone
    already exceed the margin, since no number of seeds mends that.

    >>> seeds_needed(0.02, 0.0001, 0.02, 0.05, items=2000)
    5
    >>> seeds_needed(0.02, 0.0001, 0.2, 0.05, items=500) is None
    True
    """
    goal = (margin - true_drop) ** 2
    if _effort(alpha, power) * item_variance / items >= goal:
        return None
    for seeds in range(2, MOST_SEEDS):
        variance = seed_variance / seeds + (item_variance + error_variance / seeds) / items
        effort = t_quantile(1 - alpha, seeds - 1) + t_quantile(power, seeds - 1)
        if effort**2 * variance <= goal:
            return seeds
    return None


def false_alarms_p(alarms: int, runs: int, rate: float = 0.05) -> float:
    """P(at least this many false alarms in independent A/A runs); small = the test is broken.

    >>> round(false_alarms_p(4, 20), 4), round(false_alarms_p(5, 20), 4)
    (0.0159, 0.0026)
    """
    fewer = range(min(alarms, runs + 1))
    return 1.0 - sum(math.comb(runs, n) * rate**n * (1 - rate) ** (runs - n) for n in fewer)
