"""AudioMNIST: Becker et al. 2018, arXiv 1807.03418."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from training.data.manifest import Row
from training.data.readers.files import list_audio_files

CLIP = re.compile(r"\d_(\d+)_\d+")


def audiomnist(root: Path) -> Iterator[Row]:
    """.../data/SPEAKER/DIGIT_SPEAKER_TAKE.wav."""
    for path in list_audio_files(root, 1):
        match = CLIP.fullmatch(path.stem)
        if match and match[1] == path.parent.name:
            yield Row(path, "audiomnist", match[1], "train")
