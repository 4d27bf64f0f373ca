"""From one model to the next without stored audio: enrolled on one server, moved by another."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import soundfile
from sayso import Client, InvalidArgument, RawAudio, SequentialTest
from typer.testing import CliRunner

from service.audit import chain
from service.commands.application import app
from service.contract import Contract
from service.errors import StartupError
from service.inference.session import Session
from service.settings import SHIPPED_MODEL
from tests.support.local_server import LocalServer
from tests.support.rotated_model import rotate_embeddings
from tests.support.voices import clips

NEW = "rotated"
COPIES = ("slt", "slt-streamed", "slt-undone", "slt-early", "slt-taken", "slt-told", "rms", "awb")
SETTINGS = {
    "move_margin_llr": 0.0,
    "move_min_speech_s": 1.0,
    "min_enroll_speech_s": 4.0,
    "duplicate_alarm_rate": 0.2,
}
LENIENT = 0.1  # a voice moved by one short call is held to less


@pytest.fixture(scope="module")
def old() -> Contract:
    return Session.open(SHIPPED_MODEL, device="cpu", threads=1).contract


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Speakers who enrolled with the model that ships, and what it says of one of them."""
    address = f"sqlite:///{tmp_path_factory.mktemp('store') / 'sayso.db'}"
    with LocalServer(store=address, **SETTINGS) as server, server.client() as sayso:
        for speaker in COPIES:
            for clip in clips(speaker[:3], "enroll"):
                assert sayso.enroll(speaker, clip).stored
        sayso.groups.create("all")
        sayso.groups.add_members("all", ["slt", "rms", "awb"])
    return address


@pytest.fixture(scope="module")
def new_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return rotate_embeddings(
        SHIPPED_MODEL, tmp_path_factory.mktemp("model") / "new.onnx", model_id=NEW
    )


@pytest.fixture(scope="module")
def upgraded(store: str, new_model: Path) -> Iterator[LocalServer]:
    models = {"model": new_model, "previous_model": SHIPPED_MODEL}
    settings = {**SETTINGS, **models, "audit": new_model.parent / "audit"}
    with LocalServer(store=store, **settings) as server:
        yield server


@pytest.fixture
def sayso(upgraded: LocalServer) -> Iterator[Client]:
    with upgraded.client() as client:
        yield client


def clip(speaker: str, number: int = 1) -> Path:
    return clips(speaker, f"verify-{number}")[0]


def status(server: LocalServer) -> str:
    arguments = ["speakers", "migrate", "--status", "--server", server.address]
    answered = CliRunner().invoke(app, arguments)
    assert answered.exit_code == 0, answered.output
    return answered.stdout


def test_nobody_has_moved_before_the_first_call(
    upgraded: LocalServer, sayso: Client, old: Contract
) -> None:
    counted = sayso.speakers.migration()
    assert (counted.model_id, counted.previous_model_id) == (NEW, old.model_id)
    assert (counted.moved, counted.waiting, counted.stranded) == (0, len(COPIES), 0)
    assert "0.0% have moved" in status(upgraded)


def test_impostors_are_judged_in_the_old_space_and_move_nobody(
    sayso: Client, old: Contract
) -> None:
    before = sayso.speakers.get("awb")
    decision = sayso.verify("awb", clip("rms"))
    assert (decision.outcome, decision.model_id) == ("REJECTED", old.model_id)
    assert sayso.speakers.get("awb") == before


def test_a_group_is_searched_while_some_have_moved(sayso: Client, old: Contract) -> None:
    assert sayso.verify("rms", clip("rms")).model_id == old.model_id
    assert sayso.verify("rms", clip("rms", 2)).model_id == NEW
    for speaker, model_id in (("rms", NEW), ("slt", old.model_id), ("awb", old.model_id)):
        found = sayso.identify("all", clip(speaker), max_candidates=3, target_false_match_rate=0.5)
        assert [found.candidates[0].speaker_id, found.candidates[0].model_id] == [speaker, model_id]
        assert sorted(at.speaker_id for at in found.candidates) == ["awb", "rms", "slt"]


def test_a_confident_accept_moves_the_caller(
    upgraded: LocalServer, sayso: Client, old: Contract
) -> None:
    first = sayso.verify("slt", clip("slt"))
    assert (first.outcome, first.model_id) == ("ACCEPTED", old.model_id)
    assert sayso.speakers.get("slt").model_ids == (NEW, old.model_id)
    second = sayso.verify("slt", clip("slt", 2), target_false_match_rate=LENIENT)
    assert (second.outcome, second.model_id) == ("ACCEPTED", NEW)
    impostor = sayso.verify("slt", clip("rms", 2), target_false_match_rate=LENIENT)
    assert (impostor.outcome, impostor.model_id) == ("REJECTED", NEW)
    counted = sayso.speakers.migration()
    assert counted.moved >= 1
    assert f"{counted.share:.1%} have moved" in status(upgraded)


def test_a_call_moves_the_caller_while_it_is_heard(sayso: Client, old: Contract) -> None:
    samples, rate = soundfile.read(clip("slt"), dtype="int16")
    step = rate // 5
    chunks = (samples[at : at + step].tobytes() for at in range(0, len(samples), step))
    *_, last = sayso.verify_stream("slt-streamed", chunks, raw=RawAudio("LINEAR16", rate))
    assert (last.outcome, last.model_id) == ("ACCEPTED", old.model_id)
    assert sayso.verify("slt-streamed", clip("slt", 2)).model_id == NEW


def test_calls_that_end_early_move_the_caller_bit_by_bit(sayso: Client, old: Contract) -> None:
    answers = []
    for number in (1, 2):
        samples, rate = soundfile.read(clip("slt", number), dtype="int16")
        step = rate // 10
        chunks = (samples[at : at + step].tobytes() for at in range(0, len(samples), step))
        *_, last = sayso.verify_stream(
            "slt-early",
            chunks,
            raw=RawAudio("LINEAR16", rate),
            sequential=SequentialTest(0.2, 0.2),
            stop_at_decision=True,
        )
        answers.append((last.outcome, last.model_id))
        assert last.net_speech_s < SETTINGS["min_enroll_speech_s"] / 2
    assert answers == [("ACCEPTED", old.model_id)] * 2
    assert sayso.speakers.get("slt-early").model_ids == (NEW, old.model_id)
    assert sayso.speakers.migration().begun == 1
    assert sayso.verify("slt-early", clip("slt")).model_id == old.model_id
    assert sayso.verify("slt-early", clip("slt", 2)).model_id == NEW


def test_a_move_is_undone(sayso: Client, old: Contract) -> None:
    before = sayso.speakers.get("slt-undone")
    assert sayso.verify("slt-undone", clip("slt")).accepted
    assert sayso.speakers.get("slt-undone").model_ids == (NEW, old.model_id)
    back = sayso.speakers.undo("slt-undone")
    assert (back.model_ids, back.net_speech_s) == (before.model_ids, before.net_speech_s)
    assert sayso.verify("slt-undone", clip("rms")).model_id == old.model_id


def test_the_trail_tells_of_moves(sayso: Client, new_model: Path, old: Contract) -> None:
    assert sayso.verify("slt-told", clip("slt")).model_id == old.model_id
    entries = [json.loads(line.text) for line in chain.lines([new_model.parent / "audit"])][-3:]
    told = [(fact["action"], fact["outcome"], fact.get("model_id")) for fact in entries]
    assert told == [
        ("verify", "ACCEPTED", old.model_id),
        ("move", "BEGUN", None),
        ("move", "STORED", NEW),
    ]
    assert len({fact["subject"] for fact in entries}) == 1


def test_nobody_else_enrols_over_an_old_voice(sayso: Client, old: Contract) -> None:
    before = sayso.speakers.get("slt-taken")
    stolen = sayso.enroll("slt-taken", clips("rms", "enroll")[0])
    assert stolen.reasons == ("VOICE_MISMATCH",)
    assert sayso.speakers.get("slt-taken") == before
    for speaker in ("awb", "rms"):
        found = sayso.enroll("somebody", clips(speaker, "enroll")[0], duplicates="REFUSE")
        assert found.duplicates == (speaker,)
    added = sayso.enroll("slt-taken", clips("slt", "enroll")[0])
    assert added.stored
    assert sayso.verify("slt-taken", clip("slt")).model_id == NEW


def test_embeddings_are_compared_within_one_model(sayso: Client, store: str, old: Contract) -> None:
    new = sayso.embed(clip("slt"))
    assert new is not None
    assert new.model_id == NEW
    with LocalServer(store=store) as server, server.client() as before:
        earlier = before.embed(clip("slt"))
    assert earlier is not None
    assert sayso.compare(new, new) == pytest.approx(1.0)
    assert sayso.compare(earlier, earlier) == pytest.approx(1.0)
    for left, right in ((new, earlier), (earlier, new)):
        with pytest.raises(InvalidArgument, match="cannot be compared"):
            sayso.compare(left, right)


def test_a_model_does_not_follow_itself(tmp_path: Path) -> None:
    server = LocalServer(store=f"sqlite:///{tmp_path / 'sayso.db'}", previous_model=SHIPPED_MODEL)
    with pytest.raises(StartupError, match="SAYSO_PREVIOUS_MODEL"), server:
        pass


def test_speakers_are_not_moved_by_command(upgraded: LocalServer) -> None:
    answered = CliRunner().invoke(app, ["speakers", "migrate", "--server", upgraded.address])
    assert answered.exit_code == 2


def test_without_the_previous_model_an_old_voice_is_stranded(
    upgraded: LocalServer, sayso: Client, store: str, new_model: Path
) -> None:
    waiting = sayso.speakers.migration().waiting
    assert waiting > 0
    with LocalServer(store=store, model=new_model, **SETTINGS) as server, server.client() as alone:
        assert alone.speakers.migration().stranded == waiting
        decision = alone.verify("awb", clip("awb"))
        assert (decision.outcome, decision.model_id) == ("NOT_ENROLLED", NEW)
