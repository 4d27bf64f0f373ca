"""VoxCeleb 1 and 2: Nagrani et al., Interspeech 2017; Chung et al., Interspeech 2018."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from training.data.manifest import Row
from training.data.readers.files import list_audio_files
from training.errors import ManifestError

TEST_SPEAKERS = frozenset(f"id{number}" for number in range(10270, 10310))
SPEAKER = re.compile(r"id(\d)\d{4}")


def voxceleb(root: Path) -> Iterator[Row]:
    """.../[dev|test]/.../id10001/VIDEO/00001.wav: the video is the session.

    Speakers id1.... are of VoxCeleb 1, id0.... of VoxCeleb 2. VoxCeleb calls "dev" what is trained
    on; the speakers of its trial list VoxCeleb1-O are of the test split in any folder. Raises
    ManifestError where the audio is still AAC, which is not read.
    """
    has_clips = False
    for path in list_audio_files(root, 2):
        speaker, video = path.parts[-3:-1]
        match = SPEAKER.fullmatch(speaker)
        if match is None:
            continue
        has_clips = True
        corpus = "voxceleb1" if match[1] == "1" else "voxceleb2"
        tested = "test" in path.parts[-5:-3] or speaker in TEST_SPEAKERS
        split = "test" if tested else "train"
        yield Row(path, corpus, speaker, split, video)
    if not has_clips and next(root.rglob("id*/*/*.m4a"), None) is not None:
        raise ManifestError(f"{root} holds .m4a files; convert them, to .flac say, where they are")
