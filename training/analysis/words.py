"""The word said in a clip, where a corpus names its files after it.

WORD-TAKE                     fsdd, arabic_speech_commands, dspspeech20 and speech_commands as
                              ../shared/data has them (a word of dspspeech20 is a number)
WORD/SPEAKER_nohash_TAKE      speech_commands as published: Warden 2018, arXiv 1804.03209
WORD_SPEAKER_TAKE             audiomnist and fsdd as published; the word is a digit
"""

from __future__ import annotations

import re

from training.data.library import Clip

DASHED = r"[^/]+/(?P<word>.+)-\d+"
IN_FOLDER = r"(?P<word>[^/]+)/[^/]+_nohash_\d+"
DIGIT = r"[^/]+/(?P<word>\d)_[^/]+_\d+"

NAMED = {  # the first pattern that fits a clip's folder and stem has its word
    "arabic_speech_commands": (DASHED,),
    "audiomnist": (DIGIT,),
    "dspspeech20": (DASHED,),
    "fsdd": (DASHED, DIGIT),
    "speech_commands": (IN_FOLDER, DASHED),
}


def read_word(clip: Clip) -> str | None:
    """The word in a clip's file name; None if its corpus has sentences or names files otherwise."""
    name = f"{clip.path.parent.name}/{clip.path.stem}"
    for pattern in NAMED.get(clip.corpus, ()):
        if match := re.fullmatch(pattern, name):
            return match["word"]
    return None
