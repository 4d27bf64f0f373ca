"""A folder of speaker folders, and the calls to try: who speaks, and who they claim to be."""

from dataclasses import dataclass
from pathlib import Path

SUFFIXES = {".wav", ".flac", ".ogg", ".opus", ".mp3"}


@dataclass(frozen=True, slots=True)
class Voice:
    """A speaker's clips; one who enrolls nothing is a stranger."""

    name: str
    enroll: tuple[Path, ...]
    calls: tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class Trial:
    """A call by `voice`, from someone who claims to be `claim`."""

    voice: str
    call: Path
    claim: str

    @property
    def genuine(self) -> bool:
        return self.voice == self.claim


def read_voices(folder: Path) -> list[Voice]:
    """Read one voice for each subfolder with clips: those named enrol* enroll, the others call.

    If no clip in the whole folder is named so, the first half of each speaker's clips enrolls.
    """
    clips = {
        speaker.name: sorted(clip for clip in speaker.rglob("*") if clip.suffix.lower() in SUFFIXES)
        for speaker in sorted(folder.iterdir())
        if speaker.is_dir()
    }
    named = any(_is_enroll(clip) for mine in clips.values() for clip in mine)
    return [_make_voice(name, mine, named=named) for name, mine in clips.items() if mine]


def make_trials(voices: list[Voice]) -> list[Trial]:
    """List the trials: each call as its own speaker's and as the next one's, and a stranger's call
    as every speaker's."""
    speakers = [voice.name for voice in voices if voice.enroll]
    return [
        Trial(voice.name, call, claim)
        for voice in voices
        for claim in _list_claims(voice, speakers)
        for call in voice.calls
    ]


def _is_enroll(clip: Path) -> bool:
    return clip.name.startswith("enrol")


def _make_voice(name: str, clips: list[Path], *, named: bool) -> Voice:
    half = (len(clips) + 1) // 2
    enroll = [clip for clip in clips if _is_enroll(clip)] if named else clips[:half]
    return Voice(name, tuple(enroll), tuple(clip for clip in clips if clip not in enroll))


def _list_claims(voice: Voice, speakers: list[str]) -> list[str]:
    if not voice.enroll:
        return speakers
    following = speakers[(speakers.index(voice.name) + 1) % len(speakers)]
    return list(dict.fromkeys([voice.name, following]))
