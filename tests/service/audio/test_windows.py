import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.audio.windows import WindowAccumulator, cut

lengths = st.integers(0, 60)
shapes = st.integers(1, 20).flatmap(lambda w: st.tuples(st.just(w), st.integers(1, w)))


def _speech(count: int) -> np.ndarray:
    return np.arange(1, count + 1, dtype=np.float32)


def _naive_cut(speech: np.ndarray, window: int, hop: int) -> list[list[float]]:
    if not len(speech):
        return []
    if len(speech) < window:
        return [[speech[i % len(speech)] for i in range(window)]]
    starts = list(range(0, len(speech) - window + 1, hop))
    if starts[-1] != len(speech) - window:
        starts.append(len(speech) - window)
    return [list(speech[start : start + window]) for start in starts]


@given(lengths, shapes)
def test_cut_is_the_naive_cut(count: int, shape: tuple[int, int]) -> None:
    window, hop = shape
    windows = cut(_speech(count), window_samples=window, hop_samples=hop)
    assert windows.dtype == np.float32
    assert windows.shape[1] == window
    assert windows.tolist() == _naive_cut(_speech(count), window, hop)


@given(lengths, shapes)
def test_every_sample_is_in_some_window(count: int, shape: tuple[int, int]) -> None:
    window, hop = shape
    windows = cut(_speech(count), window_samples=window, hop_samples=hop)
    assert set(windows.ravel().tolist()) == set(_speech(count).tolist())


@given(st.integers(1, 60), shapes)
def test_last_window_ends_where_the_speech_ends(count: int, shape: tuple[int, int]) -> None:
    window, hop = shape
    last = cut(_speech(count), window_samples=window, hop_samples=hop)[-1]
    expected = _speech(count)[-window:] if count >= window else np.tile(_speech(count), window)
    assert np.array_equal(last, expected[:window])


def test_end_aligned_window_is_not_repeated() -> None:
    windows = cut(_speech(8), window_samples=4, hop_samples=2)
    assert windows[:, 0].tolist() == [1, 3, 5]


@given(st.lists(lengths, max_size=8), shapes)
def test_any_chunking_accumulates_to_the_cut(counts: list[int], shape: tuple[int, int]) -> None:
    window, hop = shape
    speech = _speech(sum(counts))
    accumulator = WindowAccumulator(window, hop)
    parts = [accumulator.push(piece) for piece in np.split(speech, np.cumsum(counts))[:-1]]
    parts.append(accumulator.cut_tail())
    whole = cut(speech, window_samples=window, hop_samples=hop)
    assert np.array_equal(np.concatenate(parts), whole)


@given(st.lists(lengths, min_size=1, max_size=8), shapes)
def test_looking_at_the_tail_changes_nothing(counts: list[int], shape: tuple[int, int]) -> None:
    looked_at, left_alone = WindowAccumulator(*shape), WindowAccumulator(*shape)
    for piece in np.split(_speech(sum(counts)), np.cumsum(counts)):
        looked_at.cut_tail()
        assert np.array_equal(looked_at.push(piece), left_alone.push(piece))
        assert np.array_equal(looked_at.cut_tail(), left_alone.cut_tail())


@given(st.lists(lengths, min_size=1, max_size=30), shapes)
def test_memory_is_a_window_and_a_push(counts: list[int], shape: tuple[int, int]) -> None:
    window, hop = shape
    accumulator = WindowAccumulator(window, hop)
    for count in counts:
        accumulator.push(_speech(count))
        held = sum(piece.size for piece in accumulator._pieces)
        assert held < window + max(*counts, 1)


def test_later_writes_to_a_window_do_not_reach_the_next() -> None:
    accumulator = WindowAccumulator(4, 2)
    accumulator.push(_speech(4))[:] = 0
    assert accumulator.push(_speech(2)).tolist() == [[3, 4, 1, 2]]


@pytest.mark.parametrize(("window", "hop"), [(4, 0), (4, 5), (0, 0)])
def test_hop_that_would_skip_samples_is_refused(window: int, hop: int) -> None:
    with pytest.raises(ValueError, match="hop"):
        WindowAccumulator(window, hop)
