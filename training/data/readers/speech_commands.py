"""Google Speech Commands: Warden 2018, arXiv 1804.03209."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from training.data.manifest import Row
from training.data.readers.files import list_audio_files
from training.data.text_files import read_text

MARK = "_nohash_"
LISTS = {"validation_list.txt": "dev", "testing_list.txt": "test"}


def speech_commands(root: Path) -> Iterator[Row]:
    """WORD/SPEAKER_nohash_TAKE.wav beside validation_list.txt and testing_list.txt, if any."""
    split_of = {
        name: split
        for listed, split in LISTS.items()
        if (root / listed).exists()
        for name in read_text(root / listed).split()
    }
    for path in list_audio_files(root, 1):
        speaker, mark, _ = path.stem.partition(MARK)
        if mark:
            name = f"{path.parent.name}/{path.name}"
            yield Row(path, "speech_commands", speaker, split_of.get(name, "train"))
