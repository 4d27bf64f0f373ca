"""Enrol, verify, embed and compare over real gRPC, on both stores."""

import io
from pathlib import Path

import numpy as np
import pytest
import soundfile
from sayso import Client, NotFound, RawAudio

from tests.support.local_server import LocalServer
from tests.support.voices import clips

SPEAKERS = ("awb", "rms", "slt")


@pytest.fixture(scope="module")
def enrolled(server: LocalServer) -> LocalServer:
    with server.client() as sayso:
        for speaker in SPEAKERS:
            for path in clips(speaker, "enroll"):
                assert sayso.enroll(speaker, path).stored
    return server


def test_a_genuine_clip_scores_above_every_impostor(enrolled: LocalServer, sayso: Client) -> None:
    for speaker in SPEAKERS:
        for path in clips(speaker, "verify-1"):
            llrs = {name: sayso.verify(name, path).llr for name in SPEAKERS}
            assert max(llrs, key=lambda name: llrs[name] or 0) == speaker, (path, llrs)


def test_a_decision_explains_itself(enrolled: LocalServer, sayso: Client) -> None:
    decision = sayso.verify("slt", clips("slt", "verify")[0])
    assert decision.outcome in {"ACCEPTED", "REJECTED"}
    assert decision.llr is not None
    assert decision.threshold_llr is not None
    assert decision.accepted == (decision.llr >= decision.threshold_llr)
    assert decision.threshold_description.endswith("(model)")
    assert decision.net_speech_s > 1
    assert decision.model_id


def test_the_threshold_follows_the_requested_rate(enrolled: LocalServer, sayso: Client) -> None:
    path = clips("slt", "verify")[0]
    strict = sayso.verify("slt", path, target_false_match_rate=0.01)
    lenient = sayso.verify("slt", path, target_false_match_rate=0.1)
    assert strict.llr == lenient.llr
    assert strict.threshold_llr is not None
    assert lenient.threshold_llr is not None
    assert strict.threshold_llr > lenient.threshold_llr
    assert strict.threshold_description.endswith("(request)")


def test_telephone_audio_is_the_same_voice(enrolled: LocalServer, sayso: Client) -> None:
    samples, rate = soundfile.read(clips("rms", "verify")[0], dtype="float32")
    ulaw = io.BytesIO()
    soundfile.write(ulaw, samples, rate, format="RAW", subtype="ULAW")
    wide = sayso.embed(clips("rms", "verify")[0])
    narrow = sayso.embed(ulaw.getvalue(), raw=RawAudio("MULAW", rate))
    assert wide is not None
    assert narrow is not None
    assert sayso.compare(wide, narrow) > 0.9


def test_the_callers_channel_is_picked_from_two(enrolled: LocalServer, sayso: Client) -> None:
    caller, rate = soundfile.read(clips("slt", "verify")[0], dtype="float32")
    agent, _ = soundfile.read(clips("awb", "verify")[0], dtype="float32")
    samples = min(len(caller), len(agent))
    stereo = io.BytesIO()
    both = np.stack([agent[:samples], caller[:samples]], axis=1)
    soundfile.write(stereo, both, rate, format="FLAC")
    of_caller = sayso.verify("slt", stereo.getvalue(), channel=1)
    of_agent = sayso.verify("slt", stereo.getvalue(), channel=0)
    assert of_caller.llr is not None
    assert of_agent.llr is not None
    assert of_caller.llr > of_agent.llr


def test_silence_is_inconclusive_and_says_how_much_is_missing(
    enrolled: LocalServer, sayso: Client
) -> None:
    silence = np.zeros(3 * 16000, "<i2").tobytes()
    decision = sayso.verify("slt", silence, raw=RawAudio("LINEAR16", 16000))
    assert decision.outcome == "INCONCLUSIVE"
    assert decision.reasons == ("NO_SPEECH",)
    assert decision.speech_needed_s > 0
    assert decision.llr is None


def test_an_unknown_speaker_is_not_enrolled(sayso: Client) -> None:
    decision = sayso.verify("nobody", clips("slt", "verify")[0])
    assert decision.outcome == "NOT_ENROLLED"


def test_too_little_speech_is_not_stored(sayso: Client) -> None:
    silence = np.zeros(16000, "<i2").tobytes()
    enrollment = sayso.enroll("silent", silence, raw=RawAudio("LINEAR16", 16000))
    assert not enrollment.stored
    assert enrollment.reasons == ("NO_SPEECH",)
    with pytest.raises(NotFound):
        sayso.speakers.get("silent")


def test_an_enrolment_grows_until_it_is_complete(sayso: Client) -> None:
    samples, rate = soundfile.read(clips("slt", "verify")[0], dtype="int16")
    first = samples[: 2 * rate].tobytes()
    raw = RawAudio("LINEAR16", rate)
    once = sayso.enroll("growing", first, raw=raw)
    assert once.stored
    assert once.speaker is not None
    assert once.speaker.state == "PENDING"
    assert once.speech_needed_s > 0
    assert sayso.verify("growing", first, raw=raw).outcome == "NOT_ENROLLED"
    done = sayso.enroll("growing", clips("slt", "enroll")[0])
    assert done.speaker is not None
    assert done.speaker.state == "ENROLLED"
    assert done.net_speech_s > once.net_speech_s
    replaced = sayso.enroll("growing", first, raw=raw, replace=True)
    assert replaced.net_speech_s == pytest.approx(once.net_speech_s, abs=1e-3)
    sayso.speakers.delete("growing")


def test_speakers_are_listed_shown_and_deleted(sayso: Client) -> None:
    path = clips("slt", "enroll")[0]
    names = [f"listed-{number}" for number in range(5)]
    for name in names:
        sayso.enroll(name, path, metadata={"site": "north"})
    listed = [speaker.speaker_id for speaker in sayso.speakers.list(page_size=2)]
    assert [name for name in listed if name.startswith("listed-")] == names
    assert sayso.speakers.get("listed-3").metadata == {"site": "north"}
    sayso.speakers.delete("listed-3")
    with pytest.raises(NotFound):
        sayso.speakers.get("listed-3")
    with pytest.raises(NotFound):
        sayso.speakers.delete("listed-3")


def test_embeddings_compare_without_audio(sayso: Client) -> None:
    first, second = (sayso.embed(path) for path in clips("awb", "verify")[:2])
    other = sayso.embed(clips("slt", "verify")[0])
    assert first is not None
    assert second is not None
    assert other is not None
    assert sayso.compare(first, first) == pytest.approx(1, abs=1e-5)
    assert sayso.compare(first, second) > sayso.compare(first, other)


def test_a_file_and_its_path_are_the_same(sayso: Client) -> None:
    path: Path = clips("awb", "verify")[0]
    assert sayso.embed(path) == sayso.embed(path.read_bytes())
