import random

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from service.calls.ranking import HALF, Ranking, Scale
from service.calls.search import PRODUCTS, Codes, Hit, Query, Voices, find_highest
from service.decisions.scoring import l2_normalize

DIMENSION = 12
COSINE = Ranking(offset=0.0, offset_speech=0.0, slope=1.0, slope_speech=0.0)
RANKINGS = [
    COSINE,
    Ranking(offset=-3.0, offset_speech=0.4, slope=9.0, slope_speech=0.7),
    Ranking(offset=1.0, offset_speech=-2.0, slope=-5.0, slope_speech=0.0),
    Ranking(offset=-3.0, offset_speech=0.4, slope=0.5, slope_speech=0.1, scale=Scale(8.0, 3.0)),
]

Vector = NDArray[np.float32]
Held = dict[int, tuple[str, Vector, float, Scale]]


def unit(chance: np.random.Generator) -> Vector:
    return l2_normalize(chance.standard_normal(DIMENSION, dtype=np.float32))


def naive(held: Held, query: Vector, ranking: Ranking, count: int) -> list[tuple[str, float]]:
    """One voice at a time, in double precision."""
    llrs = []
    for name, voice, log_speech, scale in held.values():
        score = sum(float(a) * float(b) for a, b in zip(voice, query, strict=True))
        if ranking.scale is not None:
            score = sum(side.gain * score - side.shift for side in (scale, ranking.scale))
        slope = ranking.slope + ranking.slope_speech * log_speech
        llrs.append((name, ranking.offset + ranking.offset_speech * log_speech + score * slope))
    return sorted(llrs, key=lambda pair: -pair[1])[:count]


@pytest.mark.parametrize("ranking", RANKINGS)
@pytest.mark.parametrize("block_rows", [1, 7, 1000])
def test_the_best_are_those_of_a_naive_search_after_any_changes(
    block_rows: int, ranking: Ranking
) -> None:
    chance, rng = np.random.default_rng(block_rows), random.Random(block_rows)
    voices = Voices(DIMENSION, block_rows=block_rows)
    held: Held = {}
    for step in range(300):
        slot = rng.randrange(40)
        if rng.random() < 0.4:
            voices.drop(slot)
            held.pop(slot, None)
        else:
            scale = Scale(rng.uniform(5, 12), rng.uniform(0, 5))
            held[slot] = (f"speaker {slot} at {step}", unit(chance), rng.uniform(-1, 4), scale)
            voices.put(slot, *held[slot])
        if step % 10 == 0:
            query, count = unit(chance), rng.choice([1, 3, 100])
            found = [(hit.speaker_id, hit.llr) for hit in voices.find_best(query, ranking, count)]
            expected = naive(held, query, ranking, count)
            assert [name for name, _ in found] == [name for name, _ in expected]
            assert [llr for _, llr in found] == pytest.approx(
                [llr for _, llr in expected], abs=1e-4
            )
        assert len(voices) == len(held)


def test_nobody_is_the_best_of_none() -> None:
    assert Voices(DIMENSION).find_best(np.ones(DIMENSION, np.float32), COSINE, 3) == []


def test_a_hit_tells_the_cosine() -> None:
    voices = Voices(2)
    voices.put(5, "alice", np.array([0.6, 0.8], np.float32), 0.0)
    doubled = Ranking(offset=1.0, offset_speech=0.0, slope=2.0, slope_speech=0.0)
    (hit,) = voices.find_best(np.array([1, 0], np.float32), doubled, 1)
    assert hit == Hit("alice", pytest.approx(0.6), pytest.approx(2.2))  # type: ignore[arg-type]


def test_two_halves_are_a_cosine() -> None:
    voices = Voices(2)
    voices.put(5, "alice", np.array([0.6, 0.8], np.float32), 0.0)
    halved = Ranking(offset=0.0, offset_speech=0.0, slope=1.0, slope_speech=0.0, scale=HALF)
    query = np.array([1, 0], np.float32)
    assert voices.find_best(query, halved, 1) == voices.find_best(query, COSINE, 1)


def test_memory_follows_the_number_of_voices() -> None:
    voices = Voices(DIMENSION, block_rows=4)
    for slot in range(40):
        voices.put(slot, str(slot), np.ones(DIMENSION, np.float32), 0.0)
    for slot in range(40):
        voices.drop(slot)
    assert len(voices) == 0
    assert not voices._blocks


def test_a_dropped_voice_is_overwritten() -> None:
    voices = Voices(DIMENSION, block_rows=4)
    for slot in range(2):
        voices.put(slot, str(slot), np.full(DIMENSION, slot + 1, np.float32), 0.0)
    voices.drop(0)
    (block,) = voices._blocks
    assert (block.voices[0] == 2).all()
    assert not block.voices[1].any()


def crowded(chance: np.random.Generator, count: int) -> Vector:
    """Voices (count, DIMENSION) that codes of 8 bits cannot tell apart."""
    near = unit(chance) + 1e-3 * chance.standard_normal((count, DIMENSION), dtype=np.float32)
    return l2_normalize(near.astype(np.float32))


@pytest.mark.parametrize("ranking", RANKINGS)
def test_voices_too_close_for_their_codes_are_told_apart(ranking: Ranking) -> None:
    chance = np.random.default_rng(4)
    held = {
        slot: (str(slot), voice, chance.uniform(0, 1e-3), Scale(9 + chance.uniform(0, 1e-3), 1.0))
        for slot, voice in enumerate(crowded(chance, 200))
    }
    voices = Voices(DIMENSION, block_rows=64)
    for slot, one in held.items():
        voices.put(slot, *one)
    for query in crowded(chance, 5):
        found = [(hit.speaker_id, hit.llr) for hit in voices.find_best(query, ranking, 5)]
        expected = naive(held, query, ranking, 5)
        assert [llr for _, llr in found] == pytest.approx([llr for _, llr in expected], abs=2e-5)


@pytest.mark.parametrize("kind", ["random", "one-sided", "one value", "nothing"])
def test_codes_are_as_far_off_as_they_say_at_most(kind: str) -> None:
    chance = np.random.default_rng(2)
    voices = np.stack([unit(chance) for _ in range(100)])
    query = unit(chance)
    match kind:
        case "one-sided":
            voices, query = np.abs(voices), np.abs(query)
        case "one value":
            voices = np.eye(1, DIMENSION, dtype=np.float32)
            query = voices[0]
        case "nothing":
            voices, query = np.zeros_like(voices), np.zeros_like(query)
    coded, codes = Query(query), Codes.of(voices)
    off = np.abs(codes.compute_cosines(coded) - voices @ query)
    assert off.max() <= codes.bound_error(coded) + 1e-6
    assert codes.bound_error(coded) < 0.02
    assert kind in ("one value", "nothing") or off.max() > 1e-4, "or they would be no codes"


def test_the_graph_of_the_products_is_what_it_is_said_to_be() -> None:
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["a", "b"], ["y"])],
        "products",
        [info("a", TensorProto.UINT8, [1, "k"]), info("b", TensorProto.INT8, ["k", "n"])],
        [info("y", TensorProto.INT32, [1, "n"])],
    )
    opset = [helper.make_opsetid("", 10)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=5)
    assert model.SerializeToString() == PRODUCTS


@pytest.mark.parametrize("count", [1, 5, 50])
def test_highest_comes_first_and_ties_keep_their_order(count: int) -> None:
    scores = np.random.default_rng(1).integers(0, 100, 50).astype(np.float32)
    found = scores[find_highest(scores, count)]
    assert found.tolist() == sorted(scores.tolist(), reverse=True)[:count]
