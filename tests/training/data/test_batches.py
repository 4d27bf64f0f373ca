from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from training.augment import Channel
from training.config import Augmentation
from training.data.batches import Batches, stream
from training.data.library import Clip, Library, clips_by_speaker, load_clips, read_manifest
from training.data.sampler import VoiceSampler
from training.data.teacher import Targets
from training.errors import BatchError

RATE_HZ = 16000
QUIET = Augmentation(noise=0, babble=0, room=0, equaliser=0, telephone=0)


def batches(
    library: Library,
    settings: Augmentation,
    speeds: tuple[float, ...] = (1.0,),
    targets: Targets | None = None,
) -> Batches:
    sampler = VoiceSampler(
        list(clips_by_speaker(library.clips).values()),
        speakers=3,
        clips_per_speaker=2,
        balance=0.0,
        crop_s=(0.5, 1.0),
        speeds=speeds,
        seed=3,
    )
    channel = Channel(settings, RATE_HZ, (), library.audio)
    return Batches(library, sampler, channel, sample_rate_hz=RATE_HZ, seed=3, targets=targets)


@pytest.fixture(scope="module")
def library(corpus: Path) -> Library:
    return load_clips(read_manifest(corpus)[:24], RATE_HZ)


def test_shapes_and_labels(library: Library) -> None:
    seen = set()
    for step in range(8):
        batch = batches(library, Augmentation())[step]
        waveforms, labels = batch.waveforms, batch.labels
        assert waveforms.dtype == torch.float32
        assert labels.dtype == torch.int64
        assert waveforms.shape[0] == labels.shape[0] == 6
        first, second = labels.reshape(3, 2).T
        assert torch.equal(first, second)
        assert len(set(first.tolist())) == 3
        seen.add(waveforms.shape[1])
    assert seen == {8000, 16000}


def test_views_of_one_batch_go_through_channels_of_their_own(library: Library) -> None:
    single = library.of([0, 4, 8])
    waveforms = batches(single, Augmentation(room=1))[0].waveforms
    assert not torch.allclose(waveforms[0], waveforms[1])


@pytest.mark.parametrize("workers", [0, 2])
def test_stream_starts_anywhere_with_any_number_of_workers(library: Library, workers: int) -> None:
    made = batches(library, Augmentation(), (1.0, 0.9))
    for step, batch in enumerate(stream(made, 2, 5, workers), start=2):
        assert torch.equal(batch.waveforms, made[step].waveforms)
        assert torch.equal(batch.labels, made[step].labels)
        assert batch.targets is None
    assert step == 4


SMALL_SHM = "mount -t tmpfs -o size=64k tmpfs /dev/shm && exec {python} -c '{code}'"
LARGE_BATCHES = """
import torch
from training.data.batches import Batch, stream

class Large:
    def __getitem__(self, step):
        return Batch(torch.ones(64, 32000), torch.arange(64), torch.arange(64), torch.ones(64, 9))

made = list(stream(Large(), 0, 6, 2))
assert [batch.waveforms.sum().item() for batch in made] == [64 * 32000.0] * 6
"""


def test_workers_need_no_shared_memory() -> None:
    command = ["unshare", "--mount", "sh", "-c"]
    if subprocess.run([*command, "mount -t tmpfs tmpfs /dev/shm"], check=False).returncode:
        pytest.skip("no rights to mount a small /dev/shm")
    script = SMALL_SHM.format(python=sys.executable, code=LARGE_BATCHES)
    subprocess.run([*command, script], check=True, timeout=300)


def test_a_worker_that_is_killed_is_an_error_that_says_what_to_do(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = batches(library, QUIET)
    monkeypatch.setattr(Batches, "__getitem__", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
    with pytest.raises(BatchError, match="fewer --workers"):
        list(stream(made, 0, 2, 1))


def test_a_faster_voice_is_a_higher_voice() -> None:
    tone = (8000 * np.sin(2 * np.pi * 1000 * np.arange(64000) / RATE_HZ)).astype(np.int16)
    clips = [Clip(Path(f"{i}.wav"), "x", f"x/{i}") for i in range(3)]
    library = Library(tuple(clips), (tone,) * 3)
    for speed in (0.8, 1.25):
        waveforms = batches(library, QUIET, (speed,))[0].waveforms
        power = np.abs(np.fft.rfft(waveforms[0].numpy()))
        loudest_hz = power.argmax() * RATE_HZ / waveforms.shape[1]
        assert loudest_hz == pytest.approx(1000 * speed, abs=3)


def test_every_view_gets_the_target_of_its_clip_and_speed(library: Library) -> None:
    speeds = (1.0, 0.9)
    clips = len(library.clips)
    names = np.arange(clips * 2, dtype=np.float32).reshape(clips, 2, 1)
    targets = Targets(names, speeds, library.digest(), "made")
    made = batches(library, QUIET, speeds, targets)
    drawn = [batch for batch in stream(made, 0, 4, 1) if batch.targets is not None]
    assert len(drawn) == 4
    for batch in drawn:
        clip, speed = np.divmod(batch.targets.numpy()[:, 0].astype(int), 2)
        speaker = [library.clips[i].speaker for i in clip]
        known = sorted({c.speaker for c in library.clips})
        expected = [known.index(name) * 2 + s for name, s in zip(speaker, speed, strict=True)]
        assert batch.labels.tolist() == expected
