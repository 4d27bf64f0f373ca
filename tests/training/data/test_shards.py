from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from training.data import packing, shards
from training.data.library import Clip, Library, load_clips, read_manifest
from training.errors import ManifestError

RATE_HZ = 16000


@pytest.fixture(scope="module")
def clips(corpus: Path) -> list[Clip]:
    return read_manifest(corpus)[:12]


@pytest.fixture(scope="module")
def library(clips: list[Clip]) -> Library:
    return load_clips(clips, RATE_HZ)


@pytest.fixture
def packed(clips: list[Clip], tmp_path: Path) -> Path:
    """Twelve clips of 11,200 samples, in shards of at most three of them."""
    packing.pack(clips, tmp_path / "pack", RATE_HZ, shard_samples=40000)
    return tmp_path / "pack"


def test_a_pack_is_the_library_it_was_made_of(library: Library, packed: Path) -> None:
    read = shards.read(packed, RATE_HZ)
    assert len(list(packed.glob("*.pcm"))) == 4
    assert [(c.corpus, c.speaker, c.path) for c in read.clips] == [
        (c.corpus, c.speaker, c.path) for c in library.clips
    ]
    for found, expected in zip(read.audio, library.audio, strict=True):
        assert found.dtype == np.int16
        assert np.array_equal(found, expected)
    assert read.digest() == library.digest()
    assert read.of(range(12)).digest() == library.digest(), "also when it is computed"
    assert read.of(range(11)).digest() != library.digest()


def test_audio_is_mapped_and_not_to_be_written(packed: Path) -> None:
    (first, *_) = shards.read(packed, RATE_HZ).audio
    assert not first.flags.owndata
    assert not first.flags.writeable


def test_unreadable_files_are_told_and_left_out(
    clips: list[Clip], library: Library, tmp_path: Path
) -> None:
    broken = Clip(tmp_path / "broken.wav", "made", "made/s0")
    (tmp_path / "broken.wav").write_bytes(b"no audio")
    done: list[None] = []
    unreadable = packing.pack(
        [broken, *clips],
        tmp_path / "pack",
        RATE_HZ,
        shard_samples=10,
        advance=lambda: done.append(None),
    )
    assert [error.path for error in unreadable] == [broken.path]
    assert len(done) == 13
    assert shards.read(tmp_path / "pack", RATE_HZ).digest() == library.digest()


def test_sessions_are_kept(tmp_path: Path, clips: list[Clip]) -> None:
    named = [Clip(c.path, c.corpus, c.speaker, f"day {i}") for i, c in enumerate(clips)]
    packing.pack(named, tmp_path / "pack", RATE_HZ, shard_samples=40000)
    assert [c.session for c in shards.read(tmp_path / "pack", RATE_HZ).clips] == [
        c.session for c in named
    ]


@pytest.mark.parametrize("change", [-2, 2])
def test_a_truncated_shard_is_an_error_that_says_what_to_do(packed: Path, change: int) -> None:
    shard = packed / "00002.pcm"
    content = shard.read_bytes()
    shard.write_bytes(content[:change] if change < 0 else content + bytes(change))
    with pytest.raises(ManifestError, match=r"00002\.pcm has \d+ of 67200 bytes.*pack again"):
        shards.read(packed, RATE_HZ)


def test_a_missing_shard_is_an_error(packed: Path) -> None:
    (packed / "00001.pcm").unlink()
    with pytest.raises(ManifestError, match=r"cannot read the shard .*00001\.pcm"):
        shards.read(packed, RATE_HZ)


def test_an_unfinished_pack_is_an_error(packed: Path, clips: list[Clip]) -> None:
    with pytest.raises(ManifestError, match="already holds a pack"):
        packing.pack(clips, packed, RATE_HZ, shard_samples=10)
    (packed / "index.json").unlink()
    with pytest.raises(ManifestError, match="no finished pack"):
        shards.read(packed, RATE_HZ)


@pytest.mark.parametrize(
    ("lines", "complaint"),
    [(slice(0, -1), "lists 11 of 12"), (slice(0, 0), "lists 0 of 12")],
)
def test_a_shortened_list_is_an_error(packed: Path, lines: slice, complaint: str) -> None:
    listed = packed / "clips.csv"
    kept = listed.read_text(encoding="utf-8").splitlines()[lines]
    listed.write_text("\n".join(kept), encoding="utf-8")
    with pytest.raises(ManifestError, match=complaint):
        shards.read(packed, RATE_HZ)


@pytest.mark.parametrize("place", ["9,0,11200", "0,0,x", "0,0,99999999", "0,-1,4", "0,0"])
def test_a_damaged_list_is_an_error(packed: Path, place: str) -> None:
    listed = packed / "clips.csv"
    header, first, rest = listed.read_text(encoding="utf-8").split("\n", 2)
    damaged = ",".join([*first.split(",")[:4], place])
    listed.write_text("\n".join([header, damaged, rest]), encoding="utf-8")
    with pytest.raises(ManifestError, match="damaged"):
        shards.read(packed, RATE_HZ)


def test_another_rate_or_version_is_an_error(packed: Path) -> None:
    with pytest.raises(ManifestError, match="packed at 16000 Hz, the recipe wants 8000"):
        shards.read(packed, 8000)
    index = json.loads((packed / "index.json").read_text(encoding="utf-8"))
    (packed / "index.json").write_text(json.dumps(index | {"version": 9}), encoding="utf-8")
    with pytest.raises(ManifestError, match="version 9"):
        shards.read(packed, RATE_HZ)


def test_too_few_speakers_leave_no_pack(clips: list[Clip], tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="two speakers"):
        packing.pack(clips[:4], tmp_path / "pack", RATE_HZ, shard_samples=10)
    assert not (tmp_path / "pack" / "index.json").exists()
