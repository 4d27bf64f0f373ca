"""The rules that a client asks for are those that the server decides by."""

import math
from collections.abc import Iterator

import pytest
from sayso import Client, Costs

from tests.support.local_server import LocalServer
from tests.support.voices import clips

CLIP = clips("slt", "verify")[0]


@pytest.fixture(scope="module")
def sayso(sqlite_server: LocalServer) -> Iterator[Client]:
    with sqlite_server.client() as client:
        for clip in clips("slt", "enroll"):
            assert client.enroll("slt", clip).stored
        yield client


def test_costs_make_the_threshold(sayso: Client) -> None:
    decision = sayso.verify("slt", CLIP, costs=Costs(0.5, miss_cost=1.0, false_accept_cost=100.0))
    assert decision.threshold_llr == pytest.approx(math.log(100.0))
    assert decision.threshold_source == "REQUEST"
    *_, last = sayso.verify_stream("slt", [CLIP.read_bytes()], costs=Costs(0.5, 1.0, 100.0))
    assert last.threshold_llr == decision.threshold_llr


@pytest.mark.parametrize(
    ("asked", "reason"),
    [({"min_net_speech_s": 50.0}, "NOT_ENOUGH_SPEECH"), ({"min_snr_db": 60.0}, "TOO_NOISY")],
)
def test_what_the_audio_has_to_offer(sayso: Client, asked: dict[str, float], reason: str) -> None:
    decision = sayso.verify("slt", CLIP, **asked)  # type: ignore[arg-type]
    assert (decision.outcome, decision.reasons) == ("INCONCLUSIVE", (reason,))


def test_a_rate_and_costs_contradict_each_other(sayso: Client) -> None:
    with pytest.raises(ValueError, match="not from both"):
        sayso.verify("slt", CLIP, target_false_match_rate=0.1, costs=Costs(0.5, 1.0, 1.0))
