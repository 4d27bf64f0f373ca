"""The benchmark of the CPU: that it compares what it says, on the model that ships."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from benchmarks import figures
from benchmarks.speed import cpu
from service.inference.session import Session
from service.settings import SHIPPED_MODEL
from tests.support.sayso_server import ROOT

MANIFEST = ROOT.parent / "shared" / "data" / "manifest.csv"

pytestmark = pytest.mark.skipif(
    not SHIPPED_MODEL.is_file(), reason=f"no {SHIPPED_MODEL.name} in models/"
)


def embeddings(session: cpu.onnxruntime.InferenceSession) -> cpu.Windows:  # type: ignore[name-defined]
    [found] = session.run(["embedding"], {"waveform": cpu.make_noise(2, 16_000)})
    return np.asarray(found)


def test_each_round_begins_with_another_job() -> None:
    order: list[str] = []

    def job(name: str) -> Callable[[], None]:
        return lambda: order.append(name)

    ticks = iter(range(100))
    taken = cpu.time_in_turn({name: job(name) for name in "abc"}, 3, lambda: float(next(ticks)))
    assert "".join(order) == "abc" + "abc" + "bca" + "cab"
    assert taken == {name: [1.0, 1.0, 1.0] for name in "abc"}


def test_ratios_are_of_one_round() -> None:
    assert cpu.divide([1.0, 6.0], [2.0, 3.0]) == [0.5, 2.0]


@pytest.mark.parametrize("name", sorted({**cpu.CHOICES, **cpu.THREADED}))
def test_no_choice_changes_an_embedding(name: str) -> None:
    change = {**cpu.CHOICES, **cpu.THREADED}[name]
    plain, other = (
        embeddings(cpu.load_session(SHIPPED_MODEL)),
        embeddings(cpu.load_session(SHIPPED_MODEL, change)),
    )
    assert np.abs((plain * other).sum(axis=1) - 1).max() < 1e-5


def test_the_base_is_what_the_service_does() -> None:
    session = Session.open(SHIPPED_MODEL, device="cpu", threads=1)
    assert np.array_equal(
        session.run(cpu.make_noise(2, 16_000)), embeddings(cpu.load_session(SHIPPED_MODEL))
    )


def test_the_time_in_kernels_is_shared_out() -> None:
    shares = cpu.measure_shares(SHIPPED_MODEL, 2)
    assert sum(shares.values()) == pytest.approx(1)
    assert {"front_end", "FusedConv", "Softmax"} <= set(shares)
    assert "Log" not in shares  # the front end's, and counted there


def test_memory_is_what_a_process_of_its_own_grows_by() -> None:
    service = next(cpu.measure_memory(SHIPPED_MODEL))
    assert service["name"] == "memory_service"
    assert service["value"] > SHIPPED_MODEL.stat().st_size / 1e6


@pytest.mark.skipif(not MANIFEST.is_file(), reason="needs ../shared/data")
def test_a_model_is_as_accurate_as_itself(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cpu, "CLIPS", 24)
    same = {"service": SHIPPED_MODEL, "copy": SHIPPED_MODEL}
    [told] = asyncio.run(cpu.measure_accuracy(same, MANIFEST))
    assert told["name"] == "copy_eer_change"
    assert told["value"] == 0
    assert told["spread"] == [0, 0]


def test_figures_of_a_label_leave_those_of_others(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = figures.figure("load", [1.0], "ms", None, "")
    monkeypatch.setattr(figures, "RESULTS", tmp_path)
    monkeypatch.setattr(cpu, "measure_all", lambda *_: iter([made]))
    for label in ("default", "small", "small"):
        cpu.main(["--label", label, "--manifest", "none"])
    held = json.loads((tmp_path / "cpu.json").read_text())
    assert [one["name"] for one in held] == ["default_load", "small_load"]
