from __future__ import annotations

from pathlib import Path

import pytest

from training.analysis.words import read_word
from training.data.library import Clip


@pytest.mark.parametrize(
    ("corpus", "path", "word"),
    [
        ("arabic_speech_commands", "eb3a99e8/zoom-out-07.opus", "zoom-out"),
        ("fsdd", "e966d05f/9-49.opus", "9"),
        ("fsdd", "recordings/7_jackson_32.wav", "7"),
        ("dspspeech20", "06446b47/00-12.opus", "00"),
        ("speech_commands", "028383f7/cat-0.opus", "cat"),
        ("speech_commands", "marvin/0a7c2a8d_nohash_1.wav", "marvin"),
        ("audiomnist", "07/4_07_13.wav", "4"),
        ("speech_commands", "_background_noise_/pink_noise.wav", None),
        ("librispeech_train_clean", "19/19-198-0001.flac", None),
        ("speechocean762", "000a/cat-0.opus", None),
    ],
)
def test_the_word_is_told_by_the_name_in_corpora_of_words(
    corpus: str, path: str, word: str | None
) -> None:
    assert read_word(Clip(Path("audio") / path, corpus, "somebody")) == word
