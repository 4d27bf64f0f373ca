from __future__ import annotations

from collections import Counter

import pytest

from training.sampler import VoiceSampler

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


def test_a_batch_never_asks_for_more_speakers_than_there_are() -> None:
    assert len(sampler(speakers=100).draw(0).views) == len(CLIPS) * 3
