from __future__ import annotations

import pytest

from training.data.clip_sampler import ClipSampler


def sampler(spread: float = 1.0, clips: int = 10, drawn: int = 4) -> ClipSampler:
    return ClipSampler(
        clips,
        drawn=drawn,
        views=3,
        spread=spread,
        crop_s=(1.0, 2.0),
        speeds=(1.0, 0.9),
        seed=7,
    )


def test_views_of_a_clip_share_its_label_and_its_speed() -> None:
    for step in range(20):
        draw = sampler().draw(step)
        views = [draw.views[i : i + 3] for i in range(0, 12, 3)]
        assert len({group[0].clip for group in views}) == 4
        for group in views:
            (clip,) = {view.clip for view in group}
            (speed,) = {view.speed for view in group}
            assert {view.label for view in group} == {2 * clip + (1.0, 0.9).index(speed)}
            assert len({view.position for view in group}) == 3
            assert all(0 <= view.position <= 1 for view in group)
    assert sampler().voices == 20


@pytest.mark.parametrize("spread", [0.0, 0.1])
def test_crops_lie_as_close_as_asked(spread: float) -> None:
    for step in range(20):
        views = sampler(spread).draw(step).views
        for first, *others in (views[i : i + 3] for i in range(0, 12, 3)):
            assert all(abs(view.position - first.position) <= spread for view in others)


def test_a_draw_depends_on_the_step_alone() -> None:
    assert sampler().draw(3) == sampler().draw(3)
    assert sampler().draw(3) != sampler().draw(4)


def test_fewer_clips_than_asked_for_are_all_drawn() -> None:
    assert {view.clip for view in sampler(clips=3).draw(0).views} == {0, 1, 2}
