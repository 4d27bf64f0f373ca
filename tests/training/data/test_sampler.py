from __future__ import annotations

from collections import Counter, defaultdict
from itertools import accumulate, pairwise

import pytest

from training import config
from training.data.sampler import VoiceSampler

CLIPS = [[0], [1, 2], [3, 4, 5, 6, 7], list(range(8, 40)), [40, 41], [42, 43, 44]]


def sampler(**changes: object) -> VoiceSampler:
    settings: dict[str, object] = {
        "speakers": 4,
        "clips_per_speaker": 3,
        "balance": 0.3,
        "crop_s": (1.0, 2.0),
        "speeds": (1.0, 0.9),
        "seed": 7,
    }
    return VoiceSampler(CLIPS, **(settings | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize("step", range(20))
def test_batch_holds_k_views_of_each_of_p_speakers(step: int) -> None:
    draw = sampler().draw(step)
    labels = [view.label for view in draw.views]
    assert list(Counter(labels).values()) == [3, 3, 3, 3]
    assert len({label // 2 for label in labels}) == 4, "a speaker is drawn once"
    assert draw.crop_s in (1.0, 2.0)
    for view in draw.views:
        assert view.clip in CLIPS[view.label // 2]
        assert view.speed == (1.0, 0.9)[view.label % 2]
        assert 0 <= view.position <= 1


@pytest.mark.parametrize("step", range(20))
def test_positives_are_different_clips_when_there_are_enough(step: int) -> None:
    drawn = Counter((view.label, view.clip) for view in sampler().draw(step).views)
    for (label, _), times in drawn.items():
        assert times <= -(-3 // len(CLIPS[label // 2]))


@pytest.mark.parametrize("step", range(20))
def test_each_clip_is_cut_as_often_as_asked_each_cut_at_a_place_of_its_own(step: int) -> None:
    views = sampler(clips_per_speaker=2, views_per_clip=3).draw(step).views
    by_label: defaultdict[int, list[int]] = defaultdict(list)
    for view in views:
        by_label[view.label].append(view.clip)
    assert len(by_label) == 4
    for label, clips in by_label.items():
        assert len(set(clips)) == min(2, len(CLIPS[label // 2]))
        assert {clips.count(clip) for clip in clips} <= {3, 6}
    assert len({view.position for view in views}) == len(views)


def test_a_batch_depends_on_seed_and_step_alone() -> None:
    ahead = sampler()
    for step in range(5):
        ahead.draw(step)
    assert ahead.draw(5) == sampler().draw(5)
    assert ahead.draw(5) != ahead.draw(6)
    assert ahead.draw(5) != sampler(seed=8).draw(5)


def test_every_clip_and_voice_is_reached() -> None:
    chosen = sampler()
    views = [view for step in range(400) for view in chosen.draw(step).views]
    assert {view.clip for view in views} == set(range(45))
    assert {view.label for view in views} == set(range(chosen.voices))


@pytest.mark.parametrize(("balance", "share"), [(0.0, 1 / 6), (1.0, 32 / 45)])
def test_balance_runs_from_speakers_alike_to_clips_alike(balance: float, share: float) -> None:
    chosen = sampler(balance=balance, speakers=1)
    first = [chosen.draw(step).views[0].label // 2 for step in range(2000)]
    assert Counter(first)[3] / 2000 == pytest.approx(share, abs=0.04)


def test_speakers_are_drawn_by_what_they_said_if_that_is_given() -> None:
    amounts = [10.0, 1.0, 1.0, 1.0, 1.0, 6.0]
    chosen = sampler(balance=1.0, speakers=1, amounts=amounts)
    first = [chosen.draw(step).views[0].label // 2 for step in range(2000)]
    assert Counter(first)[0] / 2000 == pytest.approx(0.5, abs=0.04)
    assert Counter(first)[3] / 2000 == pytest.approx(0.05, abs=0.04)


def test_a_batch_never_asks_for_more_speakers_than_there_are() -> None:
    assert len(sampler(speakers=100).draw(0).views) == len(CLIPS) * 3


# Speaker 3 has clips of sessions a to d, speaker 4 two of one session, speaker 5 lacks one's name.
SESSIONS = [""] * 8 + [f"3{'abcd'[i // 8]}" for i in range(32)] + ["4a", "4a", "5a", "5a", ""]


@pytest.mark.parametrize("step", range(20))
def test_positives_cross_sessions_where_they_are_known(step: int) -> None:
    drawn: defaultdict[int, list[int]] = defaultdict(list)
    for view in sampler(sessions=SESSIONS).draw(step).views:
        drawn[view.label // 2].append(view.clip)
    if 3 in drawn:
        assert len({SESSIONS[clip] for clip in drawn[3]}) == 3
    if 5 in drawn:
        assert sorted(drawn[5]) == [42, 43, 44]
        assert 44 in drawn[5][:2], "a clip without a session counts as one of its own"


def test_clips_of_all_sessions_are_reached() -> None:
    chosen = sampler(sessions=SESSIONS)
    views = [view for step in range(400) for view in chosen.draw(step).views]
    assert {view.clip for view in views} == set(range(45))


def test_without_sessions_the_draws_of_the_first_recipe_are_what_they_were() -> None:
    recipe = config.load("first")
    chosen = recipe.sampling
    ends = list(accumulate((1, 2, 5, 32, 2, 3, 40), initial=0))
    clips = [list(range(start, end)) for start, end in pairwise(ends)]
    for sessions in ((), [""] * ends[-1], [str(clip) for clip in range(ends[-1])]):
        drawn = VoiceSampler(
            clips,
            speakers=4,
            clips_per_speaker=chosen.clips_per_speaker,
            balance=chosen.balance,
            crop_s=chosen.crop_s,
            speeds=chosen.speeds,
            seed=recipe.seed,
            sessions=sessions,
        ).draw(1999)
        assert [(v.clip, round(v.position, 6), v.speed, v.label) for v in drawn.views] == [
            (8, 0.772177, 0.9, 10),
            (12, 0.878326, 0.9, 10),
            (40, 0.101015, 0.9, 13),
            (41, 0.549353, 0.9, 13),
            (3, 0.501723, 1.1, 8),
            (4, 0.214774, 1.1, 8),
            (55, 0.769866, 1.1, 20),
            (48, 0.300638, 1.1, 20),
        ]
        assert drawn.crop_s == 2.0
