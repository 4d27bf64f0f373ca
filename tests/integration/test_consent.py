"""A speaker's will outlives what is done with the record; a recording sent twice counts once."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import soundfile
from sayso import Client, FailedPrecondition, NotFound, RawAudio

from tests.support.local_server import LocalServer
from tests.support.voices import clips

SLT = clips("slt", "enroll")[0]
SIGNED = "form-7"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    folder = tmp_path_factory.mktemp("willing")
    with LocalServer(store=f"sqlite:///{folder / 'sayso.db'}") as server, server.client() as sayso:
        yield sayso


def test_no_use_is_made_of_a_voice_whose_consent_was_withdrawn(served: Client) -> None:
    served.enroll("slt", SLT, consent=SIGNED)
    served.groups.create("all")
    served.groups.add_members("all", ["slt"])
    assert served.verify("slt", SLT).outcome == "ACCEPTED"
    assert [each.speaker_id for each in served.identify("all", SLT).candidates] == ["slt"]
    withdrawn = served.speakers.withdraw_consent("slt")
    assert withdrawn.state == "WITHOUT_CONSENT"
    refused = served.verify("slt", SLT)
    assert (refused.outcome, refused.llr) == ("OPTED_OUT", None)
    assert "consent was withdrawn" in refused.explanation
    assert served.identify("all", SLT).candidates == ()
    with pytest.raises(FailedPrecondition, match="withdrawn"):
        served.enroll("slt", clips("slt", "enroll")[1])
    back = served.speakers.update("slt", consent=SIGNED)
    assert back.state == "ENROLLED"
    assert served.verify("slt", SLT).outcome == "ACCEPTED"


def test_where_consent_is_required_no_voice_without_one_is_used(tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path / 'sayso.db'}"
    with LocalServer(store=store) as server, server.client() as sayso:
        sayso.enroll("slt", SLT)
    with LocalServer(store=store, require_consent=True) as server, server.client() as sayso:
        assert sayso.speakers.get("slt").state == "WITHOUT_CONSENT"
        assert sayso.verify("slt", SLT).outcome == "OPTED_OUT"
        sayso.speakers.update("slt", consent=SIGNED)
        assert sayso.verify("slt", SLT).outcome == "ACCEPTED"


def test_an_opt_out_is_not_forgotten_by_deleting_the_speaker(served: Client) -> None:
    served.enroll("out", SLT)
    served.speakers.opt_out("out")
    served.speakers.delete("out")
    with pytest.raises(NotFound):
        served.speakers.get("out")
    with pytest.raises(FailedPrecondition, match="opted out"):
        served.enroll("out", SLT)
    with pytest.raises(NotFound):
        served.speakers.update("out", metadata={"a": "1"})
    assert served.speakers.opt_in("out").state == "PENDING"
    again = served.enroll("out", SLT).speaker
    assert again is not None
    assert again.state == "ENROLLED"


def test_a_recording_that_is_sent_twice_counts_once(served: Client) -> None:
    samples, rate = soundfile.read(SLT, dtype="int16")
    half, raw = samples[: 3 * rate].tobytes(), RawAudio("LINEAR16", rate)
    first = served.enroll("twice", half, raw=raw)
    again = served.enroll("twice", half, raw=raw)
    assert first.speaker is not None
    assert again.speaker is not None
    assert first.speaker.state == "PENDING"
    assert again.speaker == first.speaker
    assert again.speech_needed_s == first.speech_needed_s
    details = {"consent": SIGNED, "metadata": {"agent": "7"}}
    told = served.enroll("twice", half, raw=raw, **details).speaker  # type: ignore[arg-type]
    assert told is not None
    assert (told.consent, told.metadata) == ("form-7", {"agent": "7"})
    assert (told.net_speech_s, told.undo_levels) == (first.speaker.net_speech_s, 1)
