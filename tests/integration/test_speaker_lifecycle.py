"""The life of a voice over real gRPC: undone, confirmed, opted out, expired, and never mistaken."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import soundfile
from sayso import Aborted, Client, FailedPrecondition, InvalidArgument, NotFound, RawAudio, Speaker
from typer.testing import CliRunner

from service.commands.application import app
from tests.support.local_server import LocalServer
from tests.support.sayso_server import SaysoServer
from tests.support.voices import clips

SLT = clips("slt", "enroll")[0]
_PATIENCE_S = 20.0


def serving(folder: Path, **settings: object) -> LocalServer:
    return LocalServer(store=f"sqlite:///{folder / 'sayso.db'}", **settings)


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.05)


@pytest.fixture
def alice(sayso: Client) -> Iterator[str]:
    sayso.enroll("alice", SLT)
    yield "alice"
    sayso.speakers.delete("alice")


def test_enrolments_are_undone_one_by_one(sayso: Client) -> None:
    samples, rate = soundfile.read(SLT, dtype="int16")
    raw = RawAudio("LINEAR16", rate)
    first = sayso.enroll("undone", samples[: 2 * rate].tobytes(), raw=raw).speaker
    second = sayso.enroll("undone", SLT).speaker
    assert first is not None
    assert second is not None
    assert (first.state, second.state) == ("PENDING", "ENROLLED")
    assert second.undo_levels == 2
    back = sayso.speakers.undo("undone", etag=second.etag)
    assert (back.state, back.net_speech_s) == ("PENDING", first.net_speech_s)
    with pytest.raises(Aborted):
        sayso.speakers.undo("undone", etag=second.etag)
    empty = sayso.speakers.undo("undone")
    assert (empty.state, empty.model_ids, empty.undo_levels) == ("PENDING", (), 0)
    with pytest.raises(FailedPrecondition, match="taken back"):
        sayso.speakers.undo("undone")
    assert sayso.verify("undone", SLT).outcome == "NOT_ENROLLED"
    sayso.speakers.delete("undone")


def test_undos_at_once_take_back_one_enrolment_each(sayso: Client) -> None:
    samples, rate = soundfile.read(SLT, dtype="int16")
    for seconds in (6, 7, 8):
        audio = samples[: seconds * rate].tobytes()
        sayso.enroll("hasty", audio, raw=RawAudio("LINEAR16", rate))

    def undo(_: int) -> bool:
        try:
            sayso.speakers.undo("hasty")
        except FailedPrecondition:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(undo, range(8))) == 3
    assert sayso.speakers.get("hasty").net_speech_s == 0
    sayso.speakers.delete("hasty")


def test_an_opt_out_erases_is_remembered_and_can_be_taken_back(sayso: Client, alice: str) -> None:
    gone = sayso.speakers.opt_out(alice)
    assert (gone.state, gone.model_ids, gone.undo_levels) == ("OPTED_OUT", (), 0)
    assert gone.opted_out_at is not None
    assert sayso.verify(alice, SLT).outcome == "OPTED_OUT"
    with pytest.raises(FailedPrecondition, match="opt in again first"):
        sayso.enroll(alice, SLT)
    assert sayso.speakers.opt_in(alice).state == "PENDING"
    assert sayso.enroll(alice, SLT).stored


def test_one_who_never_enrolled_opts_out(sayso: Client) -> None:
    assert sayso.speakers.opt_out("stranger").state == "OPTED_OUT"
    with pytest.raises(FailedPrecondition):
        sayso.enroll("stranger", SLT)
    sayso.speakers.delete("stranger")


def test_updates_are_by_field_and_by_etag(sayso: Client, alice: str) -> None:
    before = sayso.speakers.get(alice)
    named = sayso.speakers.update(alice, metadata={"line": "mobile"}, etag=before.etag)
    assert named.metadata == {"line": "mobile"}
    agreed = sayso.speakers.update(alice, consent="form 27")
    assert agreed.metadata == {"line": "mobile"}
    assert agreed.consent == "form 27"
    assert agreed.consented_at is not None
    with pytest.raises(Aborted):
        sayso.speakers.update(alice, metadata={}, etag=named.etag)
    with pytest.raises(InvalidArgument, match="names nothing"):
        sayso.speakers.update(alice)
    with pytest.raises(NotFound):
        sayso.speakers.update("nobody", metadata={})
    assert sayso.speakers.get(alice) == agreed
    with pytest.raises(Aborted):
        sayso.speakers.delete(alice, etag=before.etag)


def test_pages_are_stable_while_speakers_come_and_go(server: LocalServer, sayso: Client) -> None:
    steady = [f"steady-{number:02}" for number in range(12)]
    for speaker_id in steady:
        sayso.speakers.opt_out(speaker_id)
    done = threading.Event()
    churned = []

    def churn() -> None:
        with server.client() as other:
            while not done.is_set():
                for number in range(12):
                    speaker_id = f"steady-{number:02}-{len(churned) % 3}"
                    other.speakers.opt_out(speaker_id)
                    churned.append(speaker_id)
                    other.speakers.delete(speaker_id)

    with ThreadPoolExecutor(1) as pool:
        churning = pool.submit(churn)
        try:
            until(lambda: bool(churned))
            for _ in range(10):
                before = len(churned)
                listed = [speaker.speaker_id for speaker in sayso.speakers.list(page_size=2)]
                assert listed == sorted(set(listed))
                assert [name for name in listed if name in steady] == steady
                until(lambda before=before: len(churned) > before)  # type: ignore[misc]
        finally:
            done.set()
        churning.result()
    for speaker_id in steady:
        sayso.speakers.delete(speaker_id)


@pytest.mark.parametrize("server", ["sqlite"], indirect=True)
def test_the_command_line_runs_a_life(server: LocalServer) -> None:
    def sayso(*arguments: str) -> str:
        result = CliRunner().invoke(app, [*arguments, "--server", server.address])
        assert result.exit_code == 0, result.output
        return " ".join(result.output.split())

    path = str(SLT)
    enrolled = ["enroll", "cli", path, "--confirm", "--consent", "form 27"]
    assert "confirmation" in sayso(*enrolled)
    assert "ENROLLED" in sayso("speakers", "confirm", "cli")
    assert "PENDING" in sayso("speakers", "undo", "cli")
    assert "a=b" in sayso("speakers", "update", "cli", "--metadata", "a=b")
    updated = sayso("speakers", "update", "cli", "--consent", "form 28")
    assert "a=b" in updated
    assert "form 28" in updated
    assert "OPTED_OUT" in sayso("speakers", "opt-out", "cli")
    assert "PENDING" in sayso("speakers", "opt-in", "cli")
    assert "form 28" not in sayso("speakers", "show", "cli")
    sayso("speakers", "delete", "cli")


def test_an_operator_may_ask_for_consent_confirmation_and_one_id_a_voice(tmp_path: Path) -> None:
    rules = {"require_consent": True, "confirm_enrollments": True, "duplicates": "refuse"}
    with (
        SaysoServer(
            store=f"sqlite:///{tmp_path / 'sayso.db'}", duplicate_alarm_rate=0.99, **rules
        ) as server,
        server.client() as sayso,
    ):
        with pytest.raises(FailedPrecondition, match="consent"):
            sayso.enroll("alice", SLT)
        with pytest.raises(NotFound):
            sayso.speakers.get("alice")
        waiting = sayso.enroll("alice", SLT, consent="form 27").speaker
        assert waiting is not None
        assert waiting.state == "UNCONFIRMED"
        assert waiting.consent == "form 27"
        assert sayso.verify("alice", SLT).outcome == "NOT_ENROLLED"
        assert sayso.speakers.confirm("alice").state == "ENROLLED"
        assert sayso.verify("alice", SLT).llr is not None
        with pytest.raises(FailedPrecondition, match="enrolled"):
            sayso.speakers.confirm("alice")

        double = sayso.enroll("bob", SLT, consent="form 28")
        assert not double.stored
        assert double.reasons == ("ALREADY_ENROLLED",)
        assert double.duplicates == ("alice",)
        with pytest.raises(NotFound):
            sayso.speakers.get("bob")
        flagged = sayso.enroll("bob", SLT, consent="form 28", duplicates="FLAG")
        assert flagged.stored
        assert flagged.reasons == ("ALREADY_ENROLLED",)
        assert "alice" not in server.log


def test_another_voice_is_not_added_to_the_one_enrolled(
    sqlite_server: LocalServer, tmp_path: Path
) -> None:
    mine, theirs = clips("slt", "verify")[0], clips("rms", "verify")[0]
    with sqlite_server.client() as sayso:
        sayso.enroll("slt", SLT)
        genuine, other = (sayso.verify("slt", path).llr for path in (mine, theirs))
    assert genuine is not None
    assert other is not None
    between = (genuine + other) / 2
    with serving(tmp_path, enroll_match_llr=between) as server, server.client() as sayso:
        before = sayso.enroll("slt", SLT).speaker
        refused = sayso.enroll("slt", theirs)
        assert not refused.stored
        assert refused.reasons == ("VOICE_MISMATCH",)
        shell = CliRunner().invoke(app, ["enroll", "slt", str(theirs), "--server", server.address])
        assert shell.exit_code == 1
        assert "does not match the voice" in " ".join(shell.output.split())
        assert sayso.speakers.get("slt") == before
        assert sayso.enroll("slt", mine).stored


def test_a_recording_that_does_not_cohere_is_not_enrolled(tmp_path: Path) -> None:
    with serving(tmp_path, enroll_coherence_llr=1000) as server, server.client() as sayso:
        refused = sayso.enroll("slt", SLT)
        assert not refused.stored
        assert refused.reasons == ("MULTIPLE_VOICES",)
        with pytest.raises(NotFound):
            sayso.speakers.get("slt")


def test_an_unused_voice_expires_and_an_operator_erases_it_at_once(tmp_path: Path) -> None:
    with serving(tmp_path) as server, server.client() as sayso:
        kept = sayso.enroll("slt", SLT).speaker
        assert kept is not None
        assert kept.expires_at is not None
    with serving(tmp_path, expire_after_days=1e-9) as server, server.client() as sayso:
        assert sayso.speakers.get("slt").state == "EXPIRED"
        assert sayso.verify("slt", SLT).outcome == "EXPIRED"
        assert sayso.speakers.get("slt").model_ids != ()
        store = f"sqlite:///{tmp_path / 'sayso.db'}"
        done = CliRunner().invoke(
            app,
            ["tenants", "--store", store, "expire", "default", "--yes"],
            env={"SAYSO_EXPIRE_AFTER_DAYS": "1e-9"},
        )
        assert "1 of 1 voices of default have expired" in done.stdout
        assert sayso.speakers.get("slt").model_ids == ()
        sayso.enroll("rms", clips("rms", "enroll")[0])
        assert sayso.speakers.get("rms").state == "EXPIRED"
    with serving(tmp_path) as server, server.client() as sayso:
        again = sayso.enroll("slt", SLT).speaker
        assert again is not None
        assert (again.state, again.net_speech_s) == ("ENROLLED", kept.net_speech_s)


def test_an_enrolment_under_a_clock_that_is_ahead_can_be_undone(tmp_path: Path) -> None:
    with serving(tmp_path) as server, server.client() as sayso:
        kept = sayso.enroll("slt", SLT).speaker
        assert kept is not None
    with serving(tmp_path, expire_after_days=1e-9) as server, server.client() as sayso:
        sayso.enroll("slt", clips("rms", "enroll")[0])
    with serving(tmp_path) as server, server.client() as sayso:
        back = sayso.speakers.undo("slt")
        assert (back.state, back.net_speech_s) == ("ENROLLED", kept.net_speech_s)
        assert sayso.verify("slt", SLT).outcome == "ACCEPTED"


def test_an_opt_out_survives_a_kill(tmp_path: Path) -> None:
    with SaysoServer(store=f"sqlite:///{tmp_path / 'sayso.db'}") as server:
        with server.client() as sayso:
            sayso.enroll("slt", SLT)
            gone: Speaker = sayso.speakers.opt_out("slt")
        server.kill()
        server.start()
        with server.client() as sayso:
            assert sayso.speakers.get("slt") == gone
