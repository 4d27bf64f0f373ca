"""Makes demo/audio from demo/clips.csv with the voices of flite (`apt-get install flite`).

Each clip is a session of its own: speaking rate, level, background noise and format; WAV is an
8 kHz telephone line. `stretch` above 1 slows the voice; `snr_db` sets white noise against it.
"""

import csv
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

FOLDER = Path(__file__).parent
FLITE_VOICES = {"slt": "slt", "rms": "rms", "awb": "awb", "kal": "kal16"}
RATE = 16000
TELEPHONE_RATE = 8000

Samples = NDArray[np.float64]


def synthesise(voice: str, text: str, stretch: float) -> Samples:
    """Speech of a flite voice at 16 kHz: (samples,)."""
    with tempfile.NamedTemporaryFile(suffix=".wav") as wav:
        options = ["--setf", f"duration_stretch={stretch}", "-t", text, "-o", wav.name]
        subprocess.run(["flite", "-voice", voice, *options], check=True)  # noqa: S607
        speech, rate = soundfile.read(wav.name)
    resampled: Samples = soxr.resample(speech, rate, RATE)
    return resampled


def record(
    speech: Samples, level_dbfs: float, snr_db: float, noise: np.random.Generator
) -> Samples:
    """The speech at its level and noise, with half a second of room on either side."""
    level = 10 ** (level_dbfs / 20)
    voice = np.pad(speech * level / np.sqrt(np.mean(speech**2)), RATE // 2)
    room = noise.standard_normal(voice.size) * level / 10 ** (snr_db / 20)
    return np.clip(voice + room, -1, 1)


def telephone(samples: Samples) -> Samples:
    """The band from 300 to 3400 Hz, at 8 kHz."""
    spectrum = np.fft.rfft(samples)
    hertz = np.fft.rfftfreq(samples.size, 1 / RATE)
    spectrum[(hertz < 300) | (hertz > 3400)] = 0
    resampled: Samples = soxr.resample(np.fft.irfft(spectrum, samples.size), RATE, TELEPHONE_RATE)
    return resampled


def write_opus(path: Path, samples: Samples) -> None:
    soundfile.write(path, samples, RATE, format="OGG", subtype="OPUS", compression_level=0.9)


def write_flac(path: Path, samples: Samples) -> None:
    soundfile.write(path, samples, RATE, format="FLAC", subtype="PCM_16", compression_level=1.0)


def write_telephone(path: Path, samples: Samples) -> None:
    soundfile.write(path, telephone(samples), TELEPHONE_RATE, format="WAV", subtype="ULAW")


WRITERS: dict[str, Callable[[Path, Samples], None]] = {
    ".opus": write_opus,
    ".flac": write_flac,
    ".wav": write_telephone,
}


def main() -> None:
    noise = np.random.default_rng(1)
    with (FOLDER / "clips.csv").open() as clips:
        for clip in csv.DictReader(clips):
            path = FOLDER / "audio" / clip["speaker"] / clip["name"]
            path.parent.mkdir(parents=True, exist_ok=True)
            voice = FLITE_VOICES[clip["speaker"]]
            speech = synthesise(voice, clip["text"], float(clip["stretch"]))
            session = record(speech, float(clip["level_dbfs"]), float(clip["snr_db"]), noise)
            WRITERS[path.suffix](path, session)


if __name__ == "__main__":
    main()
