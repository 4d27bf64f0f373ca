"""P x K batches: P voices, K clips of each, drawn from the seed and the step alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class View:
    """Where to cut one example: `position` in [0, 1] is where in the clip the crop begins."""

    clip: int
    position: float
    speed: float
    label: int


@dataclass(frozen=True, slots=True)
class Draw:
    """One batch: as many consecutive views of each of P voices, all cut to `crop_s` seconds."""

    views: tuple[View, ...]
    crop_s: float


class VoiceSampler:
    """Draws P distinct speakers, one speed of each, K of its clips, all different if it has K, and
    `views_per_clip` cuts of each: pairs of one clip differ in the channel alone, pairs of two clips
    in all that a voice does.

    They come from as many sessions as they can: `sessions` names that of each clip, and a clip
    whose session is unknown ("") counts as one of its own.

    A speaker's chance is its amount of speech, by default its number of clips, to the power of
    `balance`, so that 0 draws all speakers alike. A speaker at another speed is another voice, with
    its own label: `label = speaker * len(speeds) + speed index`.
    """

    def __init__(
        self,
        clips_by_speaker: Sequence[Sequence[int]],
        *,
        speakers: int,
        clips_per_speaker: int,
        balance: float,
        crop_s: Sequence[float],
        speeds: Sequence[float],
        seed: int,
        sessions: Sequence[str] = (),
        views_per_clip: int = 1,
        amounts: Sequence[float] | None = None,
    ) -> None:
        self._clips = [np.asarray(clips) for clips in clips_by_speaker]
        self._sessions = sessions if any(sessions) else ()
        self._speakers = min(speakers, len(self._clips))
        self._clips_per_speaker = clips_per_speaker
        self._views_per_clip = views_per_clip
        self._crop_s = tuple(crop_s)
        self._speeds = tuple(speeds)
        self._seed = seed
        if amounts is None:
            amounts = [len(clips) for clips in self._clips]
        chances = np.asarray(amounts) ** balance
        self._chances = chances / chances.sum()

    @property
    def voices(self) -> int:
        return len(self._clips) * len(self._speeds)

    def draw(self, step: int) -> Draw:
        rng = np.random.default_rng((self._seed, step))
        chosen = rng.choice(len(self._clips), self._speakers, replace=False, p=self._chances)
        crop_s = self._crop_s[rng.integers(len(self._crop_s))]
        views = tuple(view for speaker in chosen for view in self._views(int(speaker), rng))
        return Draw(views, crop_s)

    def _views(self, speaker: int, rng: np.random.Generator) -> list[View]:
        speed = int(rng.integers(len(self._speeds)))
        label = speaker * len(self._speeds) + speed
        return [
            View(int(clip), float(rng.random()), self._speeds[speed], label)
            for clip in self._choose(self._clips[speaker], rng)
            for _ in range(self._views_per_clip)
        ]

    def _choose(
        self, clips: npt.NDArray[np.int_], rng: np.random.Generator
    ) -> npt.NDArray[np.int_]:
        rounds = -(-self._clips_per_speaker // len(clips))
        shuffled = [self._alternate(rng.permutation(clips)) for _ in range(rounds)]
        return np.concatenate(shuffled)[: self._clips_per_speaker]

    def _alternate(self, clips: npt.NDArray[np.int_]) -> npt.NDArray[np.int_]:
        """Reorder so that the n-th clips of all sessions come before any n+1-th."""
        if not self._sessions:
            return clips
        met: Counter[str] = Counter()
        turns = []
        for clip in clips:
            session = self._sessions[clip]
            turns.append(met[session])
            met[session] += bool(session)
        return clips[np.argsort(turns, kind="stable")]
