"""Requests are counted and timed, and a real server takes turns with the loops."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from grpc.aio import AioRpcError
from sayso import RawAudio

from benchmarks.speed import serving
from benchmarks.speed.bare import Form, Rate, list_forms
from benchmarks.speed.clips import cut_mixed
from benchmarks.speed.serving import SILENT, SPEECH, Bench, Turn, compare, make_figures
from benchmarks.speed.streaming import VOICE, start_server
from benchmarks.speed.unheard import replace_voice_activity
from benchmarks.speed.verifying import Answers, send_at_random, send_in_turn
from service.settings import SHIPPED_MODEL

FORM = Form(batch=2, threads=1, loops=1)

with_model = pytest.mark.skipif(
    not SHIPPED_MODEL.is_file(), reason=f"no {SHIPPED_MODEL.name} in models/"
)


def turn(windows: float) -> Turn:
    return Turn(
        session=Rate(100.0, 2.0),
        pipeline=Rate(60.0, 2.0),
        server=Rate(windows, 1.8),
        callers=0.1,
        others=0.0,
        left=0.95,
    )


def bench(loops: ThreadPoolExecutor) -> Bench:
    """Callers share this process: what they cost is not what is tested."""
    return Bench(SHIPPED_MODEL, 1, 0.4, FORM, loops, loops, cut_mixed()[:4])


def test_loops_are_scaled_to_what_callers_left() -> None:
    assert turn(57.0).over(turn(57.0).pipeline) == pytest.approx(1.0)
    assert turn(45.0).by_processor_time(turn(45.0).session) == pytest.approx(0.5)


def test_the_callers_with_most_windows_are_told_of() -> None:
    found = {1: [turn(40.0)] * 3, 8: [turn(56.0), turn(57.0), turn(58.0)], 64: [turn(50.0)] * 3}
    with ThreadPoolExecutor(1) as loops:
        made = {one["name"]: one for one in make_figures(SPEECH, found, bench(loops))}
    over = made["serving_speech_over_pipeline"]
    assert (over["value"], over["holds"]) == (1.0, True)
    assert over["how"].count("8 callers") == 1
    assert not made["serving_speech_over_session"]["holds"]
    assert made["serving_speech_over_session_64_callers"]["value"] == pytest.approx(0.526)


def test_answers_are_counted_from_the_first_request() -> None:
    times = np.arange(5.0)
    answers = Answers(np.arange(5), 100 + times, 100 + times, 100.5 + times, 0.1)
    assert answers.select_answered(1.0, 3.0).tolist() == [1, 2]


def test_a_loop_has_all_cores_or_a_core_of_its_own() -> None:
    ways = {(form.threads, form.loops) for form in list_forms(2)}
    assert ways == {(2, 1), (1, 2)}
    assert {form.batch for form in list_forms(1)} == {form.batch for form in list_forms(2)}


@with_model
def test_requests_are_sent_and_timed() -> None:
    requests = [clip.request(VOICE) for clip in cut_mixed()[:6]]
    with start_server(SHIPPED_MODEL, 1) as running:
        once = send_in_turn(running.address, requests, callers=2)
        assert sorted(once.which) == list(range(6))
        round_and_round = send_in_turn(running.address, requests[:1], callers=2, seconds=0.3)
        assert len(round_and_round.which) >= 2
        by_chance = send_at_random(running.address, requests, rate=40, seconds=0.25, seed=0)
        assert len(by_chance.which) == 10
        assert (by_chance.sent_s >= by_chance.due_s).all()
        assert (by_chance.latencies_s > 0).all()
        with pytest.raises(AioRpcError):
            send_in_turn(running.address, [b"no request"], callers=1)


@with_model
def test_a_server_may_be_made_to_hear_no_silence() -> None:
    with (
        replace_voice_activity(),
        start_server(SHIPPED_MODEL, 1) as running,
        running.client() as sayso,
    ):
        wave = cut_mixed()[-1].samples()
        hushed = (1e-5 * wave * 32768).astype("<i2").tobytes()
        decision = sayso.verify(VOICE, hushed, raw=RawAudio("LINEAR16", 16000))
    assert decision.net_speech_s == pytest.approx(len(wave) / 16000, abs=0.01)


@with_model
@pytest.mark.parametrize("kind", [SPEECH, SILENT])
def test_a_server_takes_turns_with_loops(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "SETTLING_S", 0.2)
    with ThreadPoolExecutor(1) as loops:
        made = {one["name"]: one for one in compare(bench(loops), kind, callers=[2], turns=1)}
    assert made[f"serving_{kind}_server"]["value"] > 0
    assert made[f"serving_{kind}_over_session"]["target"] == serving.AIMS[kind]
    assert made[f"serving_{kind}_over_session_by_processor_time"]["value"] > 0
