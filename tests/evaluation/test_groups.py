"""Labels, filters, breakdowns, fairness, comparison, the worst errors, all pairs and samples."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from evaluation import (
    allpairs,
    assessment,
    breakdowns,
    calibration,
    comparison,
    document,
    fairness,
    held_out,
    labels,
    metrics,
    sampling,
    scores,
    trials,
    worst,
)
from evaluation.bootstrap import Sides
from evaluation.errors import EvaluationError
from evaluation.manifest import Clip, Speaker, speaker_numbers
from evaluation.metrics import Sweep
from evaluation.sampling import Shard


def labelled(*rows: tuple[str, str, str]) -> list[Clip]:
    """Clips of (speaker, gender, session)."""
    return [
        Clip(str(n), Path(str(n)), Speaker("", speaker), {"gender": gender, "session": session})
        for n, (speaker, gender, session) in enumerate(rows)
    ]


CLIPS = labelled(
    ("a", "f", "1"), ("a", "f", "2"), ("a", "f", "2"), ("b", "f", "1"), ("c", "m", "2")
)


def test_filters_keep_what_agrees_and_what_differs() -> None:
    asked = trials.pairs(CLIPS, limit=99)
    same = labels.filtered(asked, same=["gender"])
    assert len(same) == 6
    assert all(
        CLIPS[e].labels["gender"] == CLIPS[t].labels["gender"]
        for e, t in zip(same.enrol, same.test, strict=True)
    )
    both = labels.filtered(asked, same=["gender"], different=["session"])
    assert sorted(zip(both.enrol.tolist(), both.test.tolist(), strict=True)) == [
        (0, 1),
        (0, 2),
        (1, 3),
        (2, 3),
    ]
    with pytest.raises(EvaluationError, match="no clip has a label 'age'; there is corpus, gender"):
        labels.filtered(asked, same=["age"])
    with pytest.raises(EvaluationError, match="no target trial"):
        labels.filtered(asked, different=["gender"])


def test_a_blank_label_is_no_label(world: Callable) -> None:
    clips, voices = world(16, 4)
    clips = tuple(
        replace(clip, labels={"gender": "", "age": "teens" if index else "", "session": ""})
        for index, clip in enumerate(clips)
    )
    asked = trials.pairs(clips, limit=10**6)
    judged = scores.score(asked, voices)
    assert labels.columns(clips) == ("age",)
    assert "gender" not in dict(breakdowns.of(judged))
    assert set(assessment.fairness_groups(judged)) == {"age"}
    with pytest.raises(
        EvaluationError, match="the column 'gender' is blank for all of these clips"
    ):
        labels.filtered(asked, same=["gender"])


def test_blank_demographics_leave_fairness_by_corpus(world: Callable) -> None:
    clips, voices = world(16, 4)
    clips = tuple(replace(clip, labels={"gender": ""}) for clip in clips)
    judged = scores.score(trials.pairs(clips, limit=10**6), voices)
    assert set(assessment.fairness_groups(judged)) == {"corpus"}


def test_bins_are_half_open_and_named() -> None:
    masks = breakdowns.binned(np.array([0.5, 1.0, 1.9, 2.0, 9.0]), (1.0, 2.0), "s")
    assert {name: keep.tolist() for name, keep in masks.items()} == {
        "under 1 s": [True, False, False, False, False],
        "1 to 2 s": [False, True, True, False, False],
        "2 s or more": [False, False, False, True, True],
    }


def scored(world: Callable, **made: float) -> scores.Scored:
    clips, voices = world(16, 4, **made)
    clips = tuple(
        replace(clip, labels={"gender": "fm"[index // 32]}) for index, clip in enumerate(clips)
    )
    return scores.score(trials.pairs(clips, limit=10**6), voices)


def test_breakdowns_cover_every_trial_once(world: Callable) -> None:
    held = scored(world)
    found = dict(breakdowns.of(held))
    assert set(found) >= {"net speech, heard", "signal to noise, heard", "gender"}
    for name in ("net speech, heard", "signal to noise, heard", "change of gender"):
        assert np.array_equal(
            sum(keep.astype(int) for keep in found[name].values()), held.trials.target >= 0
        )
    genders = found["gender"]
    assert genders["f"].sum() == genders["m"].sum() == 32 * 31 // 2


def test_fairness_counts_at_one_threshold(world: Callable) -> None:
    held = scored(world, spread=1.5)
    target, cosine = held.trials.target, held.measures.cosine
    groups = assessment.fairness_groups(held)["gender"]
    rows = fairness.table(cosine, target, Sides.of(held.trials), groups, 0.5, replicates=20)
    for name, keep in groups.items():
        row = rows[name]
        assert row.fmr == pytest.approx(np.mean(cosine[keep & ~target] >= 0.5))
        assert row.fnmr == pytest.approx(np.mean(cosine[keep & target] < 0.5))
        assert row.fmr_interval.low <= row.fmr <= row.fmr_interval.high
    rates = [row.fmr for row in rows.values()]
    assert fairness.differential(rows)[0] == pytest.approx(max(rates) / min(rates))


def test_a_paired_comparison_sees_what_two_intervals_do_not(world: Callable) -> None:
    held = scored(world, spread=1.5)
    target, cosine = held.trials.target, held.measures.cosine
    sides = Sides.of(held.trials)
    noise = np.random.default_rng(0).normal(size=len(cosine))
    worse = cosine + 0.3 * noise
    found = comparison.paired(worse, cosine, target, sides, replicates=50)["EER"]
    assert found.verdict == "B is better"
    assert found.second < found.first
    back = comparison.paired(cosine, worse, target, sides, replicates=50)["EER"]
    assert back.verdict == "A is better"
    assert back.interval.low == pytest.approx(-found.interval.high)
    same = comparison.paired(cosine, cosine, target, sides, replicates=50)["EER"]
    assert (same.verdict, same.second_lower) == ("no difference shown", 0.5)


def test_the_worst_errors_are_the_extremes_of_distinct_speakers(world: Callable) -> None:
    held = scored(world, spread=2.0)
    cosine, target = held.measures.cosine, held.trials.target
    accepted = worst.false_matches(held.trials, cosine, 5)
    refused = worst.false_non_matches(held.trials, cosine, 5)
    assert accepted[0].score == cosine[~target].max()
    assert refused[0].score == cosine[target].min()
    assert len({frozenset((one.enrol_speaker, one.test_speaker)) for one in accepted}) == 5
    assert all(one.enrol_speaker == one.test_speaker for one in refused)
    assert [one.score for one in accepted] == sorted((one.score for one in accepted), reverse=True)


def test_a_promise_is_checked_on_the_other_half_of_the_speakers(world: Callable) -> None:
    clips, voices = world(60, 12, spread=1.0)
    held = scores.score(trials.pairs(clips, limit=10**6), voices)
    sides = Sides.of(held.trials)
    checks = held_out.check(
        held.measures,
        held.trials.target,
        sides,
        terms=assessment.TERMS,
        strata=np.zeros(60, int),
        replicates=50,
    )
    assert len(checks) == 2
    for check in checks:
        assert check.promised == 0.01
        assert check.interval.low <= check.realised <= check.interval.high
        assert check.holds


def test_all_pairs_are_counted_as_a_loop_would(
    world: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(allpairs, "BLOCK", 20)
    clips, voices = world(15, 5, spread=1.5)
    speakers = speaker_numbers(clips)
    counts = allpairs.count(voices.vectors, speakers)
    cosine: dict[bool, list[float]] = {True: [], False: []}
    for one in range(75):
        for other in range(one + 1, 75):
            same = bool(speakers[one] == speakers[other])
            cosine[same].append(float(voices.vectors[one] @ voices.vectors[other]))
    edges = np.linspace(-1, 1, allpairs.BINS + 1)
    for found, values in ((counts.target, cosine[True]), (counts.nontarget, cosine[False])):
        assert found.sum() == len(values)
        expected = np.histogram(values, edges)[0]
        assert np.abs(np.cumsum(found - expected)).max() <= 2  # a cosine on an edge may fall by it
    exact = metrics.eer(Sweep.of(cosine[True], cosine[False]))
    assert counts.eer == pytest.approx(exact, abs=2e-3)


def test_a_balanced_sample_gives_each_speaker_pairs_of_clips(world: Callable) -> None:
    clips, _ = world(10, 6)
    chosen = sampling.balanced(clips, 12, seed=1)
    by_speaker = [sum(one.speaker == clip.speaker for one in chosen) for clip in chosen]
    assert by_speaker == [2] * 12
    assert chosen == sampling.balanced(clips, 12, seed=1) != sampling.balanced(clips, 12, seed=2)
    assert sampling.balanced(clips, 1000) == clips


def test_shards_share_all_clips_without_overlap(world: Callable) -> None:
    clips, _ = world(3, 5)
    parts = [Shard.parse(f"{index}/4").of(clips) for index in range(4)]
    assert sorted(clip.name for part in parts for clip in part) == sorted(c.name for c in clips)


@pytest.mark.parametrize("text", ["4/4", "1", "a/b", "-1/2", "1/0", ""])
def test_a_shard_that_is_none(text: str) -> None:
    with pytest.raises(EvaluationError, match="expected i/n"):
        Shard.parse(text)


def test_shares_make_every_pair_of_speakers_weigh_the_same() -> None:
    enrol, test = np.array([0, 0, 1, 2, 2, 2]), np.array([1, 1, 0, 2, 2, 0])
    shares: NDArray[np.float64] = calibration.equal_shares((enrol, test))
    assert shares == pytest.approx([1 / 3, 1 / 3, 1 / 3, 1 / 2, 1 / 2, 1])


def test_an_unknown_label_is_neither_a_group_nor_a_match(world: Callable) -> None:
    clips, voices = world(16, 4)
    genders = ("f", "m", "", "")
    clips = tuple(
        replace(clip, labels={"gender": genders[index // 16]}) for index, clip in enumerate(clips)
    )
    asked = trials.pairs(clips, limit=10**6)
    judged = scores.score(asked, voices)
    sides = labels.sided(asked, "gender")
    assert sides.names == ("f", "m")
    assert sides.same.sum() == 2 * 16 * 15 // 2
    assert sides.different.sum() == 16 * 16
    assert set(assessment.fairness_groups(judged)["gender"]) == {"f", "m"}
    assert len(labels.filtered(asked, same=["gender"])) == sides.same.sum()
    found = dict(breakdowns.of(judged))
    assert set(found["gender"]) == {"f", "m"}
    assert found["change of gender"]["different"].sum() == 16 * 16
    unknown = 1 - (sides.same | sides.different).mean()
    assert labels.unlabelled(asked) == {"gender": pytest.approx(unknown)}


def test_targets_below_non_targets_are_hinted_at(world: Callable) -> None:
    clips, voices = world(16, 4)
    judged = scores.score(trials.pairs(clips, limit=10**6), voices)
    measured = assessment.assess("made", judged, "", replicates=0)
    assert document.warnings(measured) == []
    negated = replace(judged.measures, cosine=-judged.measures.cosine)
    swapped = replace(measured, scored=replace(judged, measures=negated))
    assert "negated, their EER is" in document.warnings(swapped)[0]


def test_equal_audio_under_two_names_is_no_trial(world: Callable) -> None:
    clips, voices = world(16, 4)
    digests = ["same" if index in (0, 1, 60) else name for index, name in enumerate(voices.digests)]
    voices = replace(voices, digests=tuple(digests))
    asked = trials.pairs(clips, limit=10**6)
    judged = scores.score(asked, voices)
    assert (judged.same_recording, judged.unscored) == (3, 0)
    assert len(judged.trials) == len(asked) - 3
    measured = assessment.assess("made", judged, "", replicates=0)
    assert "3 trials were left out" in document.warnings(measured)[0]
