"""A server's named policies, and the decisions that they come to, over real gRPC."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sayso import Client, InvalidArgument

from service.errors import SettingsError
from tests.support.local_server import LocalServer
from tests.support.sayso_server import ROOT
from tests.support.voices import clips

POLICIES = """
[payments]
target_false_match_rate = 0.001
min_net_speech_s = 2
watchlists = ["fraud"]

[patient]
min_net_speech_s = 50
"""


@pytest.fixture(scope="module")
def sayso(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    folder = tmp_path_factory.mktemp("policies")
    path = folder / "policies.toml"
    path.write_text(POLICIES)
    with (
        LocalServer(store=f"sqlite:///{folder}/sayso.db", policies=path) as running,
        running.client() as client,
    ):
        for speaker in ("slt", "awb"):
            for clip in clips(speaker, "enroll"):
                assert client.enroll(speaker, clip).stored
        client.groups.create("fraud")
        client.groups.add_members("fraud", ["slt"])
        yield client


def test_a_call_is_decided_by_the_policy_that_it_names(sayso: Client) -> None:
    assert sayso.server_info().policies == ("patient", "payments")
    clip = clips("slt", "verify")[0]
    default, payments = sayso.verify("slt", clip), sayso.verify("slt", clip, policy="payments")
    assert default.threshold_source == "MODEL"
    assert payments.threshold_source == "POLICY"
    assert payments.threshold_description == "target false-match rate 0.001 (policy)"
    assert not default.watchlist_matches
    assert [match.speaker_id for match in payments.watchlist_matches] == ["slt"]
    *_, last = sayso.verify_stream("slt", [clip.read_bytes()], policy="patient")
    assert (last.outcome, last.reasons) == ("INCONCLUSIVE", ("NOT_ENOUGH_SPEECH",))


def test_an_unknown_policy_names_its_field(sayso: Client) -> None:
    for call in (
        lambda: sayso.verify("slt", clips("slt", "verify")[0], policy="none"),
        lambda: sayso.identify("fraud", clips("slt", "verify")[0], policy="none"),
        lambda: list(sayso.verify_stream("slt", [b""], policy="none")),
    ):
        with pytest.raises(InvalidArgument) as refused:
            call()
        assert refused.value.field == "policy_name"


def test_a_policy_looser_than_the_server_does_not_start(tmp_path: Path) -> None:
    path = tmp_path / "policies.toml"
    path.write_text("[easy]\ntarget_false_match_rate = 0.09\n")
    with (
        pytest.raises(SettingsError, match="easy: asks for less than the server's own threshold"),
        LocalServer(store=f"sqlite:///{tmp_path}/sayso.db", policies=path),
    ):
        pass


def test_a_policy_has_to_suit_the_previous_model_too(tmp_path: Path) -> None:
    """The threshold lies between those of the two models, so that the small one's is higher."""
    path, small = tmp_path / "policies.toml", ROOT / "models/sayso-small.onnx"
    path.write_text(
        "[between]\ncosts = {target_prior = 0.5, miss_cost = 1, false_accept_cost = 12.06}\n"
    )
    with LocalServer(store=f"sqlite:///{tmp_path}/sayso.db", policies=path):
        pass
    with (
        pytest.raises(SettingsError, match="between: asks for less than the server's own"),
        LocalServer(store=f"sqlite:///{tmp_path}/b.db", policies=path, previous_model=small),
    ):
        pass


def test_decisions_have_names_that_the_stream_shares(sayso: Client) -> None:
    clip = clips("slt", "verify")[0]
    one, other = sayso.verify("slt", clip), sayso.verify("slt", clip)
    assert one.decision_id
    assert one.decision_id != other.decision_id
    assert one.speaker_id == "slt"
    assert one.audio_offset_s == one.audio_s > 0
    assert one.decided_at is not None
    data = clip.read_bytes()
    chunks = [data[at : at + 4000] for at in range(0, len(data), 4000)]
    decisions = list(sayso.verify_stream("slt", chunks))
    by_outcome = {(made.outcome, made.decision_id) for made in decisions}
    assert len(by_outcome) == len({made.outcome for made in decisions})
