import logging
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from benchmarks.speed.clips import read_voices
from benchmarks.speed.unheard import make_graph
from service.audio import voice_activity
from service.audio.speech import CONTEXT_SAMPLES, FRAME_SAMPLES, VoiceActivity
from service.errors import StartupError


def frames(samples: np.ndarray) -> np.ndarray:
    """Each 512 samples after the 64 before them, `(n, 576)`."""
    padded = np.pad(samples, (CONTEXT_SAMPLES, 0))
    every = np.lib.stride_tricks.sliding_window_view(padded, CONTEXT_SAMPLES + FRAME_SAMPLES)
    return np.ascontiguousarray(every[::FRAME_SAMPLES])


def test_it_hears_what_silero_hears() -> None:
    theirs, ours = VoiceActivity.open(voice_activity.find_package_model()), VoiceActivity.open()
    heard = frames(np.concatenate(read_voices()))
    expected, _ = theirs.estimate_speech(heard, theirs.initial_state)
    found, _ = ours.estimate_speech(heard, ours.initial_state)
    assert 0.1 < np.mean(expected > 0.5) < 0.95
    np.testing.assert_allclose(found, expected, atol=5e-5)


@pytest.mark.parametrize("at_once", [1, 2, 3, 7, 64])
def test_any_number_of_frames_at_once_gives_the_same_bits(at_once: int) -> None:
    vad = VoiceActivity.open()
    heard = frames(read_voices()[0])
    whole, last = vad.estimate_speech(heard, vad.initial_state)
    found, state = [], vad.initial_state
    for start in range(0, len(heard), at_once):
        some, state = vad.estimate_speech(heard[start : start + at_once], state)
        found.append(some)
    np.testing.assert_array_equal(np.concatenate(found), whole)
    np.testing.assert_array_equal(state, last)


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the model file belongs of a `silero_vad` that is found before the installed one."""
    data = tmp_path / "silero_vad" / "data"
    data.mkdir(parents=True)
    (data.parent / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    return data / voice_activity.MODEL


def test_with_other_weights_the_package_s_own_graph_is_used(
    package: Path, caplog: pytest.LogCaptureFixture
) -> None:
    onnx.save(make_graph(), package)
    with caplog.at_level(logging.WARNING):
        vad = VoiceActivity.open()
    heard, _ = vad.estimate_speech(frames(np.zeros(FRAME_SAMPLES, np.float32)), vad.initial_state)
    assert heard.tolist() == [1.0]
    [record] = caplog.records
    assert "silero-vad is laid out anew" in record.getMessage()


def test_a_damaged_package_says_what_to_install(package: Path) -> None:
    with pytest.raises(StartupError, match="--force-reinstall silero-vad"):
        package.write_bytes(b"not a model")
        VoiceActivity.open()


def test_a_missing_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(StartupError, match="run `pip install --no-deps silero-vad`"):
        VoiceActivity.open()


def test_the_package_is_not_imported() -> None:
    code = (
        "import sys; from service.audio.speech import VoiceActivity; VoiceActivity.open();"
        "assert not {'silero_vad', 'torch', 'torchaudio', 'onnx'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[3])
