"""Balanced samples and shards."""

from collections.abc import Callable

import pytest

from evaluation.errors import EvaluationError
from evaluation.trials import sampling
from evaluation.trials.sampling import Shard


def test_a_balanced_sample_gives_each_speaker_pairs_of_clips(world: Callable) -> None:
    clips, _ = world(10, 6)
    chosen = sampling.sample_balanced(clips, 12, seed=1)
    by_speaker = [sum(one.speaker == clip.speaker for one in chosen) for clip in chosen]
    assert by_speaker == [2] * 12
    assert (
        chosen
        == sampling.sample_balanced(clips, 12, seed=1)
        != sampling.sample_balanced(clips, 12, seed=2)
    )
    assert sampling.sample_balanced(clips, 1000) == clips


def test_shards_share_all_clips_without_overlap(world: Callable) -> None:
    clips, _ = world(3, 5)
    parts = [Shard.parse(f"{index}/4").select(clips) for index in range(4)]
    assert sorted(clip.name for part in parts for clip in part) == sorted(c.name for c in clips)


@pytest.mark.parametrize("text", ["4/4", "1", "a/b", "-1/2", "1/0", ""])
def test_a_shard_that_is_none(text: str) -> None:
    with pytest.raises(EvaluationError, match="expected i/n"):
        Shard.parse(text)
