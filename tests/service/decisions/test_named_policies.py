"""Named policies lie between the server's rules and a request's; nothing loosens any of them."""

from pathlib import Path

import pytest

from service.contract import Calibration
from service.decisions.named_policies import NamedPolicies
from service.decisions.policy import (
    Policy,
    PolicyDefaults,
    QualityGate,
    RequestedPolicy,
    RequestedTest,
    SequentialTest,
    ThresholdSource,
)
from service.decisions.thresholds import choose_threshold, choose_threshold_among
from service.errors import InvalidArgument, SettingsError

CALIBRATION = Calibration(-5.0, {"cosine": 10.0}, ((0.1, 0.0), (0.01, 2.0), (0.001, 4.0)), "made")
SERVER = Policy(0.01, ThresholdSource.SERVER, QualityGate(1.0, 0.0, 0.1))
DEFAULTS = PolicyDefaults(SERVER, SequentialTest(0.01, 0.02, 10.0), 0.5)
PAYMENTS = """
[payments]
description = "transfers"
target_false_match_rate = 0.001
min_net_speech_s = 5
watchlists = ["fraud"]

[payments.sequential]
max_net_speech_s = 12

[balance]
min_snr_db = 3
"""


@pytest.fixture
def policies(tmp_path: Path) -> NamedPolicies:
    path = tmp_path / "policies.toml"
    path.write_text(PAYMENTS)
    return NamedPolicies.read(path)


def lay(policies: NamedPolicies, name: str, **requested: object) -> Policy:
    named = policies.get(name)
    assert named is not None
    request = RequestedPolicy(rules=named.rules, **requested)  # type: ignore[arg-type]
    return request.fill_in(DEFAULTS)


def test_a_policy_fills_in_what_a_request_leaves_out(policies: NamedPolicies) -> None:
    policy = lay(policies, "payments")
    threshold = choose_threshold(policy, CALIBRATION)
    assert (threshold.llr, threshold.source) == (4.0, ThresholdSource.POLICY)
    assert threshold.description == "target false-match rate 0.001 (policy)"
    assert policy.gate == QualityGate(5.0, 0.0, 0.1)
    assert policy.sequential == SequentialTest(0.01, 0.02, 12.0)
    payments = policies.get("payments")
    assert payments is not None
    assert payments.watchlists == ("fraud",)


def test_what_a_policy_leaves_out_is_the_servers(policies: NamedPolicies) -> None:
    policy = lay(policies, "balance")
    threshold = choose_threshold(policy, CALIBRATION)
    assert (threshold.llr, threshold.source) == (2.0, ThresholdSource.SERVER)
    assert policy.gate == QualityGate(1.0, 3.0, 0.1)
    assert policy.sequential is None


@pytest.mark.parametrize("rate", [0.01, 0.1])
def test_a_request_never_loosens_the_policy_that_it_names(
    policies: NamedPolicies, rate: float
) -> None:
    test = RequestedTest(false_match_rate=0.4, false_non_match_rate=0.4)
    policy = lay(policies, "payments", criterion=rate, min_speech_s=1.0, sequential=test)
    assert choose_threshold(policy, CALIBRATION).llr == 4.0
    among = choose_threshold_among(10, policy, CALIBRATION)
    assert among.llr == choose_threshold_among(10, lay(policies, "payments"), CALIBRATION).llr
    assert policy.gate.min_speech_s == 5.0
    assert policy.sequential == SequentialTest(0.01, 0.02, 12.0)


def test_a_request_may_be_stricter_than_the_policy(policies: NamedPolicies) -> None:
    policy = lay(policies, "balance", criterion=0.001, min_speech_s=8.0)
    assert choose_threshold(policy, CALIBRATION).llr == 4.0
    assert policy.gate.min_speech_s == 8.0


def test_no_policy_is_looser_than_the_server(tmp_path: Path) -> None:
    path = tmp_path / "policies.toml"
    path.write_text("[easy]\ntarget_false_match_rate = 0.1\nmin_net_speech_s = 0\n")
    policy = lay(NamedPolicies.read(path), "easy")
    threshold = choose_threshold(policy, CALIBRATION)
    assert (threshold.llr, threshold.source) == (2.0, ThresholdSource.SERVER_MINIMUM)
    assert policy.gate == SERVER.gate


def test_who_may_see_scores_may_loosen(policies: NamedPolicies) -> None:
    policy = lay(policies, "payments", criterion=0.1, looser=True)
    assert choose_threshold(policy, CALIBRATION).llr == 0.0


def test_names_are_listed_and_unknown_ones_refused(policies: NamedPolicies) -> None:
    assert [policy.name for policy in policies] == ["balance", "payments"]
    assert policies.get("") is None
    with pytest.raises(InvalidArgument) as refused:
        policies.get("Payments")
    assert refused.value.field == "policy_name"
    assert list(NamedPolicies.read(None)) == []


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("[a]\ntarget = 0.1", "a.target: Extra inputs are not permitted"),
        ("[a]\ntarget_false_match_rate = 2", "a.target_false_match_rate: Input should be less"),
        ("[a.sequential]\nfalse_match_rate = 0.7", "a.sequential.false_match_rate: Input should"),
        ("[a]\nmin_snr_db = nan", "a.min_snr_db: Input should be a finite number"),
        ("a = 1", "a: Input should be a valid dictionary"),
        ("[a", "cannot be read"),
        (
            "[a]\ntarget_false_match_rate = 0.1\n"
            "costs = {target_prior = 0.9, miss_cost = 1, false_accept_cost = 9}",
            "a: has both target_false_match_rate and costs",
        ),
    ],
)
def test_a_file_that_says_nothing_sensible_is_refused(
    tmp_path: Path, text: str, fault: str
) -> None:
    path = tmp_path / "policies.toml"
    path.write_text(text)
    with pytest.raises(SettingsError) as refused:
        NamedPolicies.read(path)
    assert str(refused.value).startswith("SAYSO_POLICIES: ")
    assert fault in str(refused.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"none\.toml cannot be read"):
        NamedPolicies.read(tmp_path / "none.toml")
