"""What the check for several voices in one recording rests on, measured on real speech.

Two recordings are joined: of one person, or of two from the same corpus.
`docs/operate/voices.md` has the error rates of a larger run.
"""

import csv
import random
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

from service.audio.decoding import AudioFormat, decode
from service.audio.quality import SAMPLE_RATE
from service.audio.speech import VoiceActivity
from service.inference.embedder import Embedder, Samples
from service.inference.session import Session
from service.settings import SHIPPED_MODEL

DATA = Path(__file__).resolve().parents[3] / ".." / "shared" / "data"
CORPUS = "speechocean762"
PAIRS = 12
HALF_S = 5.0


@pytest.fixture(scope="module")
def people() -> dict[str, list[Path]]:
    """Recordings by speaker, of people that the model was not trained on."""
    if not (DATA / "manifest.csv").exists():
        pytest.skip("../shared/data is not there")
    found = defaultdict(list)
    with (DATA / "manifest.csv").open() as manifest:
        for row in csv.DictReader(manifest):
            if row["split"] == "dev" and row["corpus"] == CORPUS:
                found[row["speaker"]].append(DATA / row["path"])
    return {speaker: paths for speaker, paths in sorted(found.items()) if len(paths) >= 10}


def half(paths: list[Path]) -> Samples:
    """Five seconds of recordings, at one level."""
    pieces = [
        decode(path.read_bytes(), AudioFormat(), rate=SAMPLE_RATE, max_s=60) for path in paths
    ]
    joined = np.concatenate(pieces)[: int(HALF_S * SAMPLE_RATE)]
    level = float(np.sqrt(np.mean(joined**2)))
    return (0.05 / level * joined).astype(np.float32)


async def test_two_voices_cohere_less_than_one(
    people: dict[str, list[Path]], vad: VoiceActivity
) -> None:
    chance = random.Random(5)
    one: list[float] = []
    two: list[float] = []
    async with Embedder(
        Session.open(SHIPPED_MODEL, device="cpu", threads=1), vad, max_batch=8, queue_limit=64
    ) as embedder:
        for _ in range(PAIRS):
            mine, theirs = chance.sample(sorted(people), 2)
            paths = chance.sample(people[mine], 10)
            beginning = half(paths[:5])
            for ending, coherences in ((paths[5:], one), (people[theirs][:5], two)):
                heard = await embedder.embed(np.concatenate([beginning, half(ending)]))
                assert heard.coherence is not None
                coherences.append(heard.coherence)
    assert sum(same > different for same, different in zip(one, two, strict=True)) >= 9, (one, two)
