"""Clips are what the service decodes, and are cut into as many windows as it makes of them."""

import numpy as np
import pytest

from benchmarks.speed import bare
from benchmarks.speed.clips import RATE, cut, cut_mixed
from benchmarks.speed.unheard import replace_voice_activity
from service.audio.codecs import Linear16, Mulaw
from service.audio.speech import VoiceActivity, extract
from service.inference.embedder import Embedder
from service.inference.session import Session
from service.settings import SHIPPED_MODEL


def test_a_set_has_every_length_in_both_encodings() -> None:
    clips = cut_mixed()
    telephone = [each for each in clips if each.fmt.codec is Mulaw]
    wideband = [each for each in clips if each.fmt.codec is Linear16]
    lengths_s = [each.length_s for each in telephone]
    assert lengths_s == [each.length_s for each in wideband] == list(range(1, 11))


def test_a_clip_is_decoded_to_its_length() -> None:
    for each in cut([0.7, 2.35], np.random.default_rng(0)):
        assert len(each.samples()) == pytest.approx(each.length_s * RATE, abs=2)


def test_without_voice_activity_everything_is_speech() -> None:
    silence = np.zeros(RATE + 100, np.float32)
    with replace_voice_activity() as path:
        deaf = VoiceActivity.open(path)
    np.testing.assert_array_equal(extract(deaf, silence).samples, silence)
    assert extract(VoiceActivity.open(), silence).samples.size == 0


@pytest.mark.skipif(not SHIPPED_MODEL.is_file(), reason=f"no {SHIPPED_MODEL.name} in models/")
async def test_a_loop_makes_as_many_windows_as_the_service() -> None:
    session = Session.open(SHIPPED_MODEL, device="cpu", threads=1)
    vad = VoiceActivity.open()
    async with Embedder(session, vad, max_batch=16, queue_limit=64) as embedder:
        for each in cut_mixed():
            utterance = await embedder.embed(each.samples())
            assert utterance.windows == len(bare.cut_windows(session.contract, vad, each.samples()))
