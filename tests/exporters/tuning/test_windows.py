import asyncio
import dataclasses
from pathlib import Path

import pytest

from evaluation.experiments.request import Request
from exporters import model_file
from exporters.publish import Candidate, Windows, publish
from exporters.tuning import windows
from exporters.tuning.windows import MeasuredWindows


def _measured(window_s: float, hop_s: float, eer: float) -> MeasuredWindows:
    return MeasuredWindows(Windows(window_s, hop_s), eer, 0)


def test_the_cheapest_of_the_nearly_best_is_chosen() -> None:
    short, long = _measured(1.5, 0.75, 0.05), _measured(3.0, 1.5, 0.0495)
    assert windows.choose_best([long, short]) is short
    assert windows.choose_best([long, short, better := _measured(4.0, 2.0, 0.04)]) is better
    sparse = _measured(3.0, 3.0, 0.0501)
    assert windows.choose_best([long, short, sparse]) is sparse


def test_the_grid_runs_shorter_windows_as_shapes_of_their_own() -> None:
    grid = windows.list_choices([3.0, 1.5], overlaps=[0.5, 0.0], min_speech_s=0.4)
    assert [(one.window_s, one.hop_s, one.short_s) for one in grid] == [
        (1.5, 0.75, ()),
        (1.5, 1.5, ()),
        (3.0, 1.5, (1.5,)),
        (3.0, 3.0, (1.5,)),
    ]


def test_other_windows_drop_a_calibration_and_keep_the_model(
    candidate: Candidate, tmp_path: Path
) -> None:
    contract = publish(candidate, tmp_path / "tiny.onnx")
    other = windows.apply(contract, Windows(2.0, 1.0, 0.5, (1.0,)))
    assert (other.window_samples, other.hop_samples) == (32000, 16000)
    assert (other.min_speech_samples, other.short_windows) == (8000, (16000,))
    assert other.model_id == contract.model_id


def test_every_choice_is_measured_on_its_own_windows(
    candidate: Candidate, trial_request: Request, monkeypatch: pytest.MonkeyPatch, direct: type
) -> None:
    publish(candidate, trial_request.model)
    seen = []

    class Seen(direct):  # type: ignore[misc]
        async def embed(self, samples: object) -> object:
            if self.cut not in seen:
                seen.append(self.cut)
            return await super().embed(samples)

    monkeypatch.setattr(windows, "SaysoModel", Seen)
    before = trial_request.model.read_bytes()
    choices = windows.list_choices([0.5, 1.0], overlaps=[0.5], min_speech_s=0.3)
    request = dataclasses.replace(trial_request, cache=trial_request.model.with_suffix(".sqlite"))
    measured = asyncio.run(windows.measure(request, choices))
    assert [one.windows for one in measured] == choices
    assert all(0 <= one.eer <= 1 for one in measured)
    assert len(seen) == 2
    assert trial_request.model.read_bytes() == before
    assert model_file.read(trial_request.model)[1].window_samples == 16000
