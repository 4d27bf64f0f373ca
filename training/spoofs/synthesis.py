"""Speech from text by free programs of Debian: formants, units and statistical parameters."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from training.augment.waveform import Rng, Waveform
from training.spoofs import programs

ESPEAK_VOICES = (
    *("en-us", "en-gb", "en-gb-scotland", "en-us+m1", "en-us+m3", "en-gb+m7", "en-us+f1"),
    *("en-gb+f2", "en-us+f4", "en-gb+f5", "en-us+klatt2", "en-gb+klatt4", "en-us+Alex"),
)
FLITE_DIPHONE_VOICES = ("kal16",)
FLITE_STATISTICAL_VOICES = ("awb", "rms", "slt")
FESTIVAL_DIPHONE_VOICES = ("kal_diphone", "ked_diphone")
FESTIVAL_HTS_VOICES = ("cmu_us_slt_arctic_hts",)


def speak_espeak(text: str, rate_hz: int, rng: Rng) -> Waveform:
    """eSpeak NG: formant synthesis, and Klatt's synthesizer in its klatt voices."""
    programs.require("espeak-ng", "espeak-ng")
    voice = _draw(ESPEAK_VOICES, rng)
    speed, pitch = int(rng.integers(130, 200)), int(rng.integers(20, 80))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "speech.wav")
        options = ["-v", voice, "-s", str(speed), "-p", str(pitch), "-w", str(path)]
        programs.run(["espeak-ng", *options, text])
        return programs.read_audio(path, rate_hz)


def speak_flite(text: str, rate_hz: int, rng: Rng, voices: Sequence[str]) -> Waveform:
    """Flite: diphones (kal16) or statistical parameters (Clustergen, Black 2006)."""
    programs.require("flite", "flite")
    stretch = f"duration_stretch={rng.uniform(0.9, 1.2):.2f}"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "speech.wav")
        said = ["-voice", _draw(voices, rng), "--setf", stretch, "-t", text]
        programs.run(["flite", *said, "-o", str(path)])
        return programs.read_audio(path, rate_hz)


def speak_festival(text: str, rate_hz: int, rng: Rng, voices: Sequence[str]) -> Waveform:
    """Festival: diphones, or hidden Markov models (HTS, Zen et al. 2007)."""
    programs.require("text2wave", "festival festvox-kallpc16k festvox-kdlpc16k festvox-us-slt-hts")
    voice = f"(voice_{_draw(voices, rng)})"
    stretch = f"(Parameter.set 'Duration_Stretch {rng.uniform(0.9, 1.2):.2f})"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "speech.wav")
        programs.run(["text2wave", "-o", str(path), "-eval", voice, "-eval", stretch], text=text)
        return programs.read_audio(path, rate_hz)


def _draw(names: Sequence[str], rng: Rng) -> str:
    return names[int(rng.integers(len(names)))]
