"""Corpora as they are published: a root folder to the rows of a manifest.

Each layout is a function from the root to its rows, in order of path, and knows what the names of
folders and files tell of the speaker, the session and the split. The split is "train" where a
layout tells none, and where it says "dev" of what everyone trains on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from training.data.manifest import Row
from training.data.readers.audiomnist import audiomnist
from training.data.readers.common_voice import common_voice
from training.data.readers.kaldi import kaldi
from training.data.readers.librispeech import librispeech
from training.data.readers.plain import plain
from training.data.readers.speech_commands import speech_commands
from training.data.readers.voxceleb import voxceleb
from training.errors import ManifestError

LAYOUTS: dict[str, Callable[[Path], Iterable[Row]]] = {
    "audiomnist": audiomnist,
    "common_voice": common_voice,
    "kaldi": kaldi,
    "librispeech": librispeech,
    "plain": plain,
    "speech_commands": speech_commands,
    "voxceleb": voxceleb,
}


def read(layout: str, root: Path) -> list[Row]:
    """List every clip below the root; ManifestError if there is none, or no such layout."""
    if layout not in LAYOUTS:
        raise ManifestError(f"no layout {layout!r}; there are {', '.join(LAYOUTS)}")
    rows = list(LAYOUTS[layout](root))
    if not rows:
        expected = (LAYOUTS[layout].__doc__ or "").splitlines()[0]
        raise ManifestError(f"no clip of the layout {layout} in {root}; it has {expected}")
    return rows
