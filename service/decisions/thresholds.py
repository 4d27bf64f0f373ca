"""Thresholds: the log-likelihood ratio that a policy asks for, by a model's calibration.

policy ─┬─ costs ────────────────> Bayes' threshold
        └─ false-match rate ─────> measured points, or below them an upper bound
             └ divided by N, if N voices are searched or claimed
"""

import itertools
import math
from dataclasses import dataclass, replace

from service.contract import Calibration
from service.decisions.policy import Costs, Policy, ThresholdSource
from service.errors import InvalidArgument


@dataclass(frozen=True, slots=True)
class Threshold:
    """A natural-log likelihood ratio to reach, where it came from, and that in words."""

    llr: float
    source: ThresholdSource
    description: str


@dataclass(frozen=True, slots=True)
class ClaimSize:
    """How many voices a claim names, and by how much the log-likelihood ratio of the likeliest
    exceeds the log of the mean ratio: 0 if they are all alike, log N if it stands alone."""

    voices: int = 1
    lead_llr: float = 0.0


ONE_VOICE = ClaimSize()


def choose_threshold(policy: Policy, calibration: Calibration) -> Threshold:
    """Return the threshold that a policy asks for, never below the server's own.

    A rate below the lowest measured one gets an upper bound, which the source says. Raises
    `InvalidArgument` for a rate above the highest, or if none was measured.
    """
    threshold = _choose_unbounded(policy, calibration)
    if policy.at_least is None:
        return threshold
    return raise_to_least(threshold, choose_server_threshold(policy.at_least, calibration))


def choose_server_threshold(policy: Policy, calibration: Calibration) -> Threshold:
    """As `choose_threshold` for the server's own policy, but a rate outside of the measured ones
    gets a careful threshold, so that the consequences of a call can always be decided."""
    if isinstance(policy.criterion, Costs):
        return choose_threshold(policy, calibration)
    llr = careful_threshold(calibration, policy.criterion)
    threshold = Threshold(llr, policy.source, _describe_rate(policy, policy.criterion, calibration))
    if policy.at_least is None:
        return threshold
    return raise_to_least(threshold, choose_server_threshold(policy.at_least, calibration))


def choose_threshold_among(voices: int, policy: Policy, calibration: Calibration) -> Threshold:
    """Return what the best of `voices` must reach for the error rate that the policy allows a
    whole search.

    A target rate is divided by their number (Bonferroni). With costs the prior is divided among
    them, which adds the log of their number to the threshold.
    """
    threshold = _choose_among(voices, policy, calibration)
    if policy.at_least is None:
        return threshold
    least = choose_threshold_among(voices, policy.at_least, calibration)
    return raise_to_least(threshold, least)


def choose_claim_threshold(claim: ClaimSize, policy: Policy, calibration: Calibration) -> Threshold:
    """Return what the log of the mean likelihood ratio of several voices, one of whom is claimed to
    speak, must reach for the error rate that the policy allows one claim. Raises as
    `choose_threshold`.

    It is never below that of one voice, and with costs the same, as the mean is a likelihood ratio
    like any other. Measured rates, in contrast, say nothing of sums of ratios: a target rate also
    asks of the likeliest voice what its share of the rate does (Bonferroni), so that impostors are
    accepted at most at that rate, however much the voices are alike.
    """
    one = choose_threshold(policy, calibration)
    return one if claim.voices == 1 else _choose_for_one_of(claim, policy, calibration)


def choose_server_claim_threshold(
    claim: ClaimSize, policy: Policy, calibration: Calibration
) -> Threshold:
    """As `choose_claim_threshold` for the server's own policy, see `choose_server_threshold`."""
    if claim.voices == 1:
        return choose_server_threshold(policy, calibration)
    return _choose_for_one_of(claim, policy, calibration)


def _choose_for_one_of(claim: ClaimSize, policy: Policy, calibration: Calibration) -> Threshold:
    one = choose_server_threshold(replace(policy, at_least=None), calibration)
    threshold = replace(one, description=f"{one.description}, for one of {claim.voices} voices")
    if not isinstance(policy.criterion, Costs):
        best = _choose_among(claim.voices, policy, calibration, rate_name="false-match rate")
        if best.llr - claim.lead_llr > one.llr:
            threshold = replace(best, llr=best.llr - claim.lead_llr)
    if policy.at_least is None:
        return threshold
    return raise_to_least(threshold, _choose_for_one_of(claim, policy.at_least, calibration))


def raise_to_least(threshold: Threshold, least: Threshold) -> Threshold:
    """Return the threshold that a request asks for, or the server's own if that is higher."""
    if threshold.llr >= least.llr:
        return threshold
    why = "the request's is lower, which needs the role analyze"
    return Threshold(least.llr, ThresholdSource.SERVER_MINIMUM, f"{least.description}; {why}")


def bayes_threshold(costs: Costs) -> float:
    """The log-likelihood ratio above which accepting costs less than rejecting (Duda and Hart)."""
    odds = costs.target_prior / (1 - costs.target_prior)
    return math.log(costs.false_accept_cost) - math.log(costs.miss_cost) - math.log(odds)


def false_match_threshold(calibration: Calibration, rate: float) -> float:
    """The threshold that `rate` of the calibration's non-target trials reached, interpolated
    between measured points on a logarithmic rate axis."""
    points = calibration.false_match
    if not points or not points[-1][0] <= rate <= points[0][0]:
        span = f"from {points[-1][0]:.3g} to {points[0][0]:.3g}" if points else "not at all"
        raise InvalidArgument(
            f"the model's false-match rates were measured {span}; choose one, or give costs",
            field="policy.target_false_match_rate",
        )
    for (upper, low_llr), (lower, high_llr) in itertools.pairwise(points):
        if lower <= rate <= upper:
            share = math.log(upper / rate) / math.log(upper / lower)
            return low_llr + share * (high_llr - low_llr)
    return points[0][1]


def careful_threshold(calibration: Calibration, rate: float) -> float:
    """A threshold that at most `rate` of non-target trials reach, whatever was measured.

    Between measured rates it is interpolated; above the highest it is that one's. Below the lowest,
    or without any, it is log(1/rate): over non-target trials the mean of a calibrated likelihood
    ratio is 1, so that at most `rate` of them reach 1/rate (Markov's inequality). If the lowest
    measured rate needed more than that, the calibration is overconfident, and the same excess is
    added for rarer rates.
    """
    points = calibration.false_match
    if points and rate >= points[-1][0]:
        return false_match_threshold(calibration, min(rate, points[0][0]))
    excess = points[-1][1] + math.log(points[-1][0]) if points else 0.0
    return -math.log(rate) + max(0.0, excess)


def _choose_unbounded(policy: Policy, calibration: Calibration) -> Threshold:
    if isinstance(policy.criterion, Costs):
        return Threshold(
            bayes_threshold(policy.criterion),
            policy.source,
            f"prior and costs ({policy.source.value})",
        )
    points = calibration.false_match
    below = bool(points) and policy.criterion < points[-1][0]
    llr = (careful_threshold if below else false_match_threshold)(calibration, policy.criterion)
    return Threshold(llr, policy.source, _describe_rate(policy, policy.criterion, calibration))


def _describe_rate(policy: Policy, rate: float, calibration: Calibration) -> str:
    source = f"target false-match rate {rate:.3g} ({policy.source.value})"
    points = calibration.false_match
    if points and rate >= points[-1][0]:
        return source
    lowest = f"below the lowest measured, {points[-1][0]:.3g}" if points else "none was measured"
    return f"{source}: {lowest}, so by an upper bound, log(1/rate)"


def _choose_among(
    voices: int,
    policy: Policy,
    calibration: Calibration,
    rate_name: str = "false-positive identification rate",
) -> Threshold:
    among = max(voices, 1)
    if isinstance(policy.criterion, Costs):
        llr = bayes_threshold(policy.criterion) + math.log(among)
        return Threshold(
            llr, policy.source, f"prior and costs ({policy.source.value}), log {among} added"
        )
    rate = policy.criterion / among
    description = (
        f"target {rate_name} {policy.criterion:.3g} "
        f"({policy.source.value}), {rate:.3g} for each of {among}"
        f"{_note_unmeasured(calibration, rate)}"
    )
    return Threshold(careful_threshold(calibration, rate), policy.source, description)


def _note_unmeasured(calibration: Calibration, rate: float) -> str:
    """Return a note for a rate outside of those that were measured, else nothing."""
    points = calibration.false_match
    if not points:
        return ": below any measured, so by log N"
    (highest, _), (lowest, _) = points[0], points[-1]
    if rate < lowest:
        return f": below the lowest measured, {lowest:.3g}, so by log N"
    return f": above the highest measured, {highest:.3g}, so by that" if rate > highest else ""
