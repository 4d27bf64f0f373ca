"""Kaldi data folders: Povey et al., ASRU 2011."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from training.data.manifest import Row
from training.data.readers.files import split_fields
from training.errors import ManifestError


def kaldi(root: Path) -> Iterator[Row]:
    """wav.scp (utterance, file) beside utt2spk (utterance, speaker), and utt2session if known.

    The corpus is the folder's name; files are relative to the folder, or else to where the
    command runs. Raises ManifestError for piped commands and for `segments`, neither of which
    is a file to open.
    """
    if (root / "segments").exists():
        raise ManifestError(f"{root} cuts its clips by `segments`; write them out as files first")
    speaker_of = dict(split_fields(root / "utt2spk", 2))
    sessions = root / "utt2session"
    session_of = dict(split_fields(sessions, 2)) if sessions.exists() else {}
    for utterance, file in split_fields(root / "wav.scp", 2):
        if file.endswith("|"):
            raise ManifestError(f"{root}/wav.scp: {utterance} is a command; write its output out")
        if utterance not in speaker_of:
            raise ManifestError(f"{root}/utt2spk has no speaker of {utterance}")
        beside = root / file
        path = beside if beside.exists() else Path(file)
        session = session_of.get(utterance, "")
        yield Row(path, root.resolve().name, speaker_of[utterance], "train", session)
