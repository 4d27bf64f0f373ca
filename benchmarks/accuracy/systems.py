"""Several systems on the same trials: clean, telephone and noisy, at several lengths of speech.

Every condition is measured in two forms. As recorded, the test side alone is degraded.
Cross-channel, each side comes through a channel of its own of that kind. Only clips that every
system acquires on both sides are used, and a test side with no more speech than a length is left
out of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evaluation.degrade import channels
from evaluation.degrade.channels import CrossChannel, Kind
from evaluation.degrade.conditions import Condition, Degradation, TreatmentCache
from evaluation.degrade.treatment import Treatment
from evaluation.metrics import comparison, figures
from evaluation.metrics.comparison import Difference
from evaluation.metrics.figures import Figures
from evaluation.report import breakdowns
from evaluation.scoring import embeddings, scores
from evaluation.scoring.cache import Cache
from evaluation.scoring.embeddings import System, Voices
from evaluation.trials import sampling, trials
from evaluation.trials.manifest import Clip
from evaluation.trials.trials import Trials
from service.audio.speech import VoiceActivity

Prepared = Callable[[Voices, Voices], Sequence[Voices]]

LENGTHS_S = (1.0, 2.0, 3.0, 5.0, None)
LONG_S = 3.0
POOLED = "pooled"


def _keep_both(enrolled: Voices, heard: Voices) -> Sequence[Voices]:
    return enrolled, heard


@dataclass(frozen=True, slots=True)
class Contestant:
    """A system, its name in the tables, and what prepares both sides' voices for scoring."""

    name: str
    system: System
    prepared: Prepared = _keep_both


@dataclass(frozen=True, slots=True)
class Setting:
    """A condition in one of its two forms, and the treatment of each side."""

    condition: str
    cross_channel: bool
    enrolled: Treatment | None
    heard: Treatment | None


@dataclass(frozen=True, slots=True)
class SettingRow:
    """A row of the comparison: one setting at one length of the test side's net speech.

    `speech_s` None is all of it. `figures` are by system and group of trials, `differences` of
    every other system less the reference by its name.
    """

    setting: Setting
    speech_s: float | None
    figures: Mapping[str, Mapping[str, Figures]]
    differences: Mapping[str, Difference]

    @property
    def length(self) -> str:
        return Condition(self.speech_s).length


def list_settings(vad: VoiceActivity, seed: int) -> tuple[Setting, ...]:
    """Telephone, noisy and clean, cross-channel first; as recorded, a telephone is 8 kHz and G.711
    and noise is 10 dB below speech."""
    heard: Mapping[str, tuple[Kind, Condition | None]] = {
        "telephone": (channels.TELEPHONE, Condition(codec="mulaw")),
        "noisy": (channels.NOISY, Condition(snr_db=10.0)),
        "clean": (channels.CLEAN, None),
    }
    crossed = [
        Setting(name, True, CrossChannel(seed, "enrol", kind), CrossChannel(seed, "test", kind))
        for name, (kind, _) in heard.items()
    ]
    recorded = [
        Setting(name, False, None, None if condition is None else Degradation(condition, vad, seed))
        for name, (_, condition) in reversed(list(heard.items()))
    ]
    return (*crossed, *recorded)


def sample_clips(
    clips: Sequence[Clip], speech_s: NDArray[np.float64], *, long: int, short: int, seed: int
) -> NDArray[np.intp]:
    """Rows of `long` clips with more than 3 s of net speech `speech_s` (clips,), and of `short`
    clips of the speakers that have none such, each evenly over the speakers."""
    rows = {clip.name: row for row, clip in enumerate(clips)}
    lengthy = [clip for clip in clips if speech_s[rows[clip.name]] > LONG_S]
    talkative = {clip.speaker for clip in lengthy}
    others = [clip for clip in clips if clip.speaker not in talkative]
    chosen = [
        *sampling.sample_balanced(lengthy, long, seed=seed),
        *sampling.sample_balanced(others, short, seed=seed),
    ]
    return np.array([rows[clip.name] for clip in chosen])


def pair_both_ways(clips: Sequence[Clip]) -> Trials:
    """Every pair of clips of one corpus, each of them heard once."""
    once = trials.make_pairs(clips, limit=len(clips) ** 2)
    return Trials(
        once.models,
        once.clips,
        np.concatenate([once.enrol, once.test]),
        np.concatenate([once.test, once.enrol]),
        np.concatenate([once.target, once.target]),
    )


async def measure(
    contestants: Sequence[Contestant],
    clips: Sequence[Clip],
    speech_s: NDArray[np.float64],
    cache: Cache,
    *,
    reference: str,
    lengths_s: Sequence[float | None] = LENGTHS_S,
    replicates: int = 200,
    seed: int = 0,
    on_row: Callable[[SettingRow], None] = lambda _: None,
) -> list[SettingRow]:
    """Measure all `contestants` in every setting at every length, on the pairs of `clips`.

    `speech_s` (clips,) is the net speech as recorded. `on_row` is called with each row as soon as
    it is measured.
    """
    vad = VoiceActivity.open()
    pairs = pair_both_ways(clips)
    systems = [contestant.system for contestant in contestants]
    rows = []
    for setting in list_settings(vad, seed):
        treatments = TreatmentCache(setting.heard, vad)
        enrolled = await embeddings.embed_each(
            systems,
            clips,
            cache,
            treatment=setting.enrolled,
            label=f"{_name_setting(setting)}, enrolled",
        )
        for length_s in lengths_s:
            heard = await embeddings.embed_each(
                systems,
                clips,
                cache,
                treatment=treatments.shorten_to(length_s),
                wanted=speech_s > (0.0 if length_s is None else length_s),
                label=f"{_name_setting(setting)}, {Condition(length_s).length}",
            )
            row = _measure_row(
                setting, length_s, contestants, pairs, enrolled, heard, reference, replicates, seed
            )
            on_row(row)
            rows.append(row)
    return rows


def _measure_row(
    setting: Setting,
    length_s: float | None,
    contestants: Sequence[Contestant],
    pairs: Trials,
    enrolled: Sequence[Voices],
    heard: Sequence[Voices],
    reference: str,
    replicates: int,
    seed: int,
) -> SettingRow:
    both = [np.all([voices.acquired for voices in side], axis=0) for side in (enrolled, heard)]
    common = pairs.select(both[0][pairs.enrol] & both[1][pairs.test])
    sides = common.sides()
    scored = {
        contestant.name: scores.score(common, *contestant.prepared(one, other))
        for contestant, one, other in zip(contestants, enrolled, heard, strict=True)
    }
    some = next(iter(scored.values()))
    groups = {POOLED: np.ones(len(common), bool), **breakdowns.split_by_corpus(some)}
    measured = {
        name: {
            group: figures.measure(
                system.measures.cosine[keep],
                common.target[keep],
                sides.select(keep),
                replicates=replicates,
                seed=seed,
            )
            for group, keep in groups.items()
            if common.target[keep].any() and not common.target[keep].all()
        }
        for name, system in scored.items()
    }
    against = scored[reference].measures.cosine
    differences = {
        name: comparison.compare(
            against,
            system.measures.cosine,
            common.target,
            sides,
            replicates=max(replicates, 2),
            seed=seed,
        )["EER"]
        for name, system in scored.items()
        if name != reference
    }
    return SettingRow(setting, length_s, measured, differences)


def _name_setting(setting: Setting) -> str:
    return f"{setting.condition}, {'cross-channel' if setting.cross_channel else 'as recorded'}"
