"""Enrolment while the speaker talks: it ends with enough speech, and watchlists are screened."""

import io
import itertools
from collections.abc import Iterator

import pytest
import soundfile
from sayso import MAX_CHUNK_BYTES, Client, NotFound, RawAudio
from typer.testing import CliRunner, Result

from service.commands.application import app
from tests.support.local_server import LocalServer
from tests.support.voices import clips

MULAW = RawAudio("MULAW", 8000)
FRAME_BYTES = 160  # 20 ms
ENOUGH_S = 5.0  # SAYSO_MIN_ENROLL_SPEECH_S


@pytest.fixture(scope="module")
def sayso(sqlite_server: LocalServer) -> Iterator[Client]:
    with sqlite_server.client() as client:
        yield client


@pytest.fixture(scope="module")
def call_audio() -> bytes:
    """All there is of a speaker, as a telephone line carries it."""
    made = io.BytesIO()
    for path in (*clips("slt", "enroll"), *clips("slt", "verify")):
        samples, rate = soundfile.read(path, dtype="float32")
        soundfile.write(made, samples[:: rate // 8000], 8000, format="RAW", subtype="ULAW")
    return made.getvalue()


@pytest.fixture(scope="module")
def fraud(sayso: Client) -> str:
    for speaker in ("slt", "rms"):
        sayso.enroll(f"known {speaker}", clips(speaker, "enroll")[0])
    sayso.groups.create("fraud")
    sayso.groups.add_members("fraud", ["known slt", "known rms"])
    return "fraud"


def frames(audio: bytes) -> Iterator[bytes]:
    return (audio[at : at + FRAME_BYTES] for at in range(0, len(audio), FRAME_BYTES))


def test_audio_is_taken_to_its_end_unless_asked_otherwise(sayso: Client, call_audio: bytes) -> None:
    *progress, last = sayso.enroll_stream("all of it", frames(call_audio), raw=MULAW)
    assert last.done
    assert last.stored
    assert last.net_speech_s > ENOUGH_S + 3
    assert not any(each.done or each.stored for each in progress)
    heard_s = [each.net_speech_s for each in progress]
    assert heard_s == sorted(heard_s)
    assert heard_s[-1] > ENOUGH_S


def test_it_ends_with_the_speech_that_completes_it(sayso: Client, call_audio: bytes) -> None:
    """Of a caller who never stops talking."""
    endless = itertools.chain.from_iterable(itertools.repeat(list(frames(call_audio))))
    *progress, last = sayso.enroll_stream("no more", endless, raw=MULAW, stop_when_complete=True)
    assert last.stored
    assert last.speaker is not None
    assert last.speaker.state == "ENROLLED"
    assert ENOUGH_S <= last.net_speech_s < ENOUGH_S + 0.5
    assert all(each.speech_needed_s > 0 for each in progress)
    assert sayso.speakers.get("no more").net_speech_s == last.net_speech_s


def test_what_was_enrolled_before_counts(sayso: Client, call_audio: bytes) -> None:
    first = sayso.enroll("in two calls", call_audio[: 8000 * 4], raw=MULAW)
    assert first.stored
    assert 0 < first.net_speech_s < ENOUGH_S
    *_, second = sayso.enroll_stream(
        "in two calls", frames(call_audio), raw=MULAW, stop_when_complete=True
    )
    assert ENOUGH_S <= second.net_speech_s < ENOUGH_S + 0.5
    *_, anew = sayso.enroll_stream(
        "in two calls", frames(call_audio), raw=MULAW, stop_when_complete=True, replace=True
    )
    assert ENOUGH_S <= anew.net_speech_s < ENOUGH_S + 0.5


def test_a_recording_is_taken_in_whole_messages(sayso: Client, call_audio: bytes) -> None:
    message_s = MAX_CHUNK_BYTES / MULAW.sample_rate
    made = sayso.enroll("a recording", call_audio, raw=MULAW, stop_when_complete=True)
    assert ENOUGH_S <= made.net_speech_s < ENOUGH_S + message_s


def test_too_little_speech_ends_it_as_ever(sayso: Client, call_audio: bytes) -> None:
    made = sayso.enroll("short", call_audio[: 8000 * 3], raw=MULAW, stop_when_complete=True)
    assert made.stored
    assert made.speech_needed_s > 0


def test_a_file_is_read_whole(sayso: Client) -> None:
    path = clips("slt", "enroll")[0]
    whole = sayso.enroll("a file", path)
    made = sayso.enroll("a file too", path, stop_when_complete=True)
    assert made.net_speech_s == whole.net_speech_s


def test_a_voice_on_a_watchlist_is_told_and_enrolled(sayso: Client, fraud: str) -> None:
    made = sayso.enroll("new id", clips("slt", "verify")[0], watchlists=[fraud])
    assert made.stored
    assert made.reasons == ("WATCHLISTED",)
    assert "matches a watchlist" in made.explanation
    (match,) = made.watchlist_matches
    assert (match.group, match.speaker_id) == (fraud, "known slt")
    assert match.llr > 0
    other = sayso.enroll("other id", clips("awb", "verify")[0], watchlists=[fraud])
    assert other.stored
    assert other.reasons == ()
    assert other.watchlist_matches == ()


def test_verification_tells_of_watchlists_too(sayso: Client, fraud: str) -> None:
    path = clips("slt", "verify")[0]
    plain = sayso.verify("known slt", path)
    made = sayso.verify("known slt", path, watchlists=[fraud])
    assert (made.outcome, made.llr) == (plain.outcome, plain.llr)
    assert made.reasons == (*plain.reasons, "WATCHLISTED")
    assert [match.speaker_id for match in made.watchlist_matches] == ["known slt"]


def test_an_unknown_watchlist_keeps_a_voice_from_being_stored(sayso: Client) -> None:
    with pytest.raises(NotFound):
        sayso.enroll("unscreened", clips("slt", "verify")[0], watchlists=["none such"])
    with pytest.raises(NotFound):
        sayso.speakers.get("unscreened")


def test_the_command_line_screens_and_stops(
    sqlite_server: LocalServer, sayso: Client, fraud: str
) -> None:
    def run(*arguments: object) -> Result:
        return CliRunner().invoke(app, [*map(str, arguments), "--server", sqlite_server.address])

    many = (*clips("slt", "enroll"), *clips("slt", "verify"))
    made = run("enroll", "by hand", *many, "--watchlist", fraud, "--stop-when-complete")
    assert made.exit_code == 0, made.output
    assert f"{many[0].name}: on watchlist fraud as known slt, LLR" in made.stdout
    assert many[-1].name not in made.stdout
    again = clips("slt", "verify")[0]
    checked = run("verify", "by hand", again, "--watchlist", fraud)
    assert f"{again.name}: on watchlist fraud as known slt, LLR" in checked.stdout
    assert "on watchlist" not in run("verify", "by hand", again).stdout
