"""LibriSpeech: Panayotov et al., ICASSP 2015; LibriTTS has the same folders."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from training.data.manifest import Row
from training.data.readers.files import list_audio_files


def librispeech(root: Path) -> Iterator[Row]:
    """.../train-clean-100/SPEAKER/CHAPTER/SPEAKER-CHAPTER-0000.flac: the chapter is the session.

    The folder's name begins with its split; the corpus is librispeech.
    """
    for path in list_audio_files(root, 3):
        subset, speaker, chapter = path.parts[-4:-1]
        if speaker.isdigit() and chapter.isdigit():
            split = subset.split("-")[0]
            known = split if split in ("train", "dev", "test") else "train"
            yield Row(path, "librispeech", speaker, known, chapter)
