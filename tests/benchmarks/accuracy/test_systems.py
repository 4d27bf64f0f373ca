"""Several systems on the same trials: what is left out, what is shared, and what is compared."""

import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.accuracy import systems
from benchmarks.accuracy.systems import POOLED, Contestant, Setting, SettingRow
from evaluation.degrade import channels
from evaluation.degrade.channels import CrossChannel
from evaluation.scoring.cache import Cache, Voice
from evaluation.trials import manifest
from evaluation.trials.manifest import Clip, Speaker
from service.decisions.scoring import l2_normalize

RATE = 16_000
Samples = NDArray[np.float32]


class Bands:
    """A stand-in system: how loud each of `count` bands is; clips shorter than `least_s` fail."""

    cut, rate = "whole", RATE

    def __init__(self, count: int, least_s: float = 0.0) -> None:
        self.model_id = f"bands-{count}-{least_s}"
        self._count, self._least_s = count, least_s

    async def embed(self, samples: Samples) -> Voice:
        spectrum = np.log1p(np.abs(np.fft.rfft(samples)))[: 8 * RATE // 16]
        levels = [band.mean() for band in np.array_split(spectrum, self._count)]
        vector = l2_normalize(np.array(levels, np.float32))
        length_s = len(samples) / RATE
        return Voice(vector if length_s > self._least_s else None, length_s, length_s, 20.0)


def clip(name: str, speaker: str, corpus: str = "") -> Clip:
    return Clip(name, Path(name), Speaker(corpus, speaker))


def test_pairs_go_both_ways_within_a_corpus() -> None:
    clips = [clip("a", "x", "one"), clip("b", "x", "one"), clip("c", "y", "one")]
    asked = systems.pair_both_ways([*clips, clip("d", "y", "two")])
    names = [(clips[e].name, clips[t].name) for e, t in zip(asked.enrol, asked.test, strict=True)]
    assert sorted(names) == [(a, b) for a in "abc" for b in "abc" if a != b]
    assert asked.target.sum() == 2


def test_a_sample_is_of_long_clips_and_of_speakers_without_any() -> None:
    clips = [clip(f"{who}{take}", who) for who in "abcd" for take in range(4)]
    speech_s = np.where(np.isin([c.speaker.name for c in clips], ["a", "b"]), 4.0, 1.0)
    speech_s[0] = 1.0
    rows = systems.sample_clips(clips, speech_s, long=4, short=4, seed=0)
    assert Counter(clips[row].speaker.name for row in rows) == {"a": 2, "b": 2, "c": 2, "d": 2}
    assert 0 not in rows
    fewer = systems.sample_clips(clips, speech_s, long=2, short=0, seed=0)
    assert set(fewer) <= set(rows)


@dataclass(frozen=True, slots=True)
class Run:
    """What was measured, and how often each side of each clip went through a channel."""

    rows: list[SettingRow]
    heard: Counter[str]

    def recorded(self, length: str) -> SettingRow:
        """The clean row as recorded at `length`."""
        [found] = [
            row
            for row in self.rows
            if row.setting == Setting("clean", False, None, None) and row.length == length
        ]
        return found


@pytest.fixture(scope="module")
def run(speech_manifest: Path) -> Iterator[Run]:
    """Three systems on nine clips of three speakers, a third of which hold enough for 1 s."""
    counted: Counter[str] = Counter()
    through = CrossChannel.__call__

    def counting(self: CrossChannel, name: str, samples: Samples, rate: int) -> Samples:
        counted[f"{self.key} {name}"] += 1
        return through(self, name, samples, rate)

    kept = [f"{who}1-{take}.wav" for who in ("awb", "kal", "slt") for take in (0, 1, 2)]
    clips = [one for one in manifest.read(speech_manifest) if one.name in kept]
    speech_s = np.array([0.8 if one.name.endswith("-1.wav") else 2.0 for one in clips])
    bands = Bands(24)
    contestants = (
        Contestant("many", bands),
        Contestant("few", Bands(3)),
        Contestant("mute", bands, lambda one, two: (one, replace(two, vectors=0 * two.vectors))),
    )
    with pytest.MonkeyPatch.context() as patch:
        for name in ("TELEPHONE", "NOISY", "CLEAN"):
            plain = replace(getattr(channels, name), codecs=("mulaw",), rooms=0.0)
            patch.setattr(channels, name, plain)
        patch.setattr(CrossChannel, "__call__", counting)
        rows = measured(contestants, clips, speech_s, 1.0, None)
    yield Run(rows, counted)


def measured(
    contestants: Sequence[Contestant],
    clips: Sequence[Clip],
    speech_s: NDArray[np.float64],
    *lengths_s: float | None,
) -> list[SettingRow]:
    with Cache.open(None) as cache:
        return asyncio.run(
            systems.measure(
                contestants,
                clips,
                speech_s,
                cache,
                reference=contestants[0].name,
                lengths_s=lengths_s,
                replicates=10,
            )
        )


def test_every_condition_is_measured_twice_at_every_length(run: Run) -> None:
    assert [(c.setting.condition, c.setting.cross_channel) for c in run.rows[::2]] == [
        *((name, True) for name in ("telephone", "noisy", "clean")),
        *((name, False) for name in ("clean", "noisy", "telephone")),
    ]
    assert [row.length for row in run.rows[:2]] == ["1 s", "full"]
    for row in run.rows:
        assert set(row.figures) == {"many", "few", "mute"}
        assert set(row.differences) == {"few", "mute"}
        assert set(row.figures["few"]) == {POOLED, "demo"}


def test_a_clip_goes_through_its_channel_once_for_all_systems_and_lengths(run: Run) -> None:
    assert len(run.heard) == 9 * 3 * 2
    assert set(run.heard.values()) == {1}


def test_a_heard_side_with_less_speech_is_left_out(run: Run) -> None:
    short, full = (run.recorded(length).figures["many"][POOLED] for length in ("1 s", "full"))
    assert (full.targets, full.nontargets, full.speakers) == (3 * 6, 9 * 6, 3)
    assert (short.targets, short.nontargets) == (3 * 4, 6 * 6)


def test_voices_are_prepared_before_they_are_scored(run: Run) -> None:
    figures = run.recorded("full").figures
    plain, mute = (figures[name][POOLED].eer.value for name in ("many", "mute"))
    assert plain < mute == 0.5
    assert run.recorded("full").differences["mute"].second == mute


def test_every_system_has_the_same_trials(
    speech_manifest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One system fails on clips of a second, so that nobody is tried on them."""
    monkeypatch.setattr(systems, "list_settings", lambda *_: (Setting("clean", False, None, None),))
    clips = [
        one for one in manifest.read(speech_manifest) if one.name.startswith(("awb1-", "kal1-"))
    ]
    many, few = Contestant("many", Bands(24)), Contestant("few", Bands(3, least_s=1.5))
    [row] = measured((many, few), clips, np.full(len(clips), 2.0), None)
    for name in ("many", "few"):
        found = row.figures[name][POOLED]
        assert (found.targets, found.nontargets) == (2 * 2, 2 * 2 * 2)
