"""Small audio that would become much: a real server refuses it in little memory, and serves on."""

import io
import itertools
import struct
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import numpy as np
import pytest
import soundfile
from sayso.v1 import audio_pb2, verification_pb2_grpc
from sayso.v1 import verification_pb2 as pb

from tests.fuzz import checksums, sound, vorbis
from tests.support.audio_configs import FILE
from tests.support.sayso_server import SaysoServer
from tests.support.voices import clips

MAX_AUDIO_S = 60
MAX_GROWTH_BYTES = 64 * 2**20
CALL_S = 30.0
HOURS_S = 20 * 3_600
RAW = audio_pb2.AudioConfig(encoding=audio_pb2.AUDIO_ENCODING_MULAW, sample_rate_hertz=8_000)
SPEECH = clips("slt", "verify")[0].read_bytes()
INVALID = grpc.StatusCode.INVALID_ARGUMENT


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SaysoServer]:
    store = f"sqlite:///{tmp_path_factory.mktemp('bombs') / 'sayso.db'}"
    with SaysoServer(store=store, max_audio_s=MAX_AUDIO_S, threads=1) as running:
        yield running


@pytest.fixture(scope="module")
def voices(server: SaysoServer) -> Iterator[verification_pb2_grpc.VerificationServiceStub]:
    with grpc.insecure_channel(server.address) as channel:
        stub = verification_pb2_grpc.VerificationServiceStub(channel)
        served(stub)
        yield stub


@pytest.fixture(autouse=True)
def in_little_memory(
    server: SaysoServer, voices: verification_pb2_grpc.VerificationServiceStub
) -> Iterator[None]:
    """What the server had resident at its peak grows little, and it serves on."""
    before = peak_bytes(server)
    yield
    served(voices)
    assert peak_bytes(server) - before < MAX_GROWTH_BYTES


def served(voices: verification_pb2_grpc.VerificationServiceStub) -> None:
    assert voices.Embed(pb.EmbedRequest(audio_config=FILE, audio=SPEECH), timeout=CALL_S).HasField(
        "embedding"
    )


def refusal(call: Callable[[], object]) -> tuple[grpc.StatusCode, str]:
    """Status and message of a call that must fail."""
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return caught.value.code(), caught.value.details() or ""


def peak_bytes(server: SaysoServer) -> int:
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    [line] = [line for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) * 1024


def short(kind: str, subtype: str) -> bytes:
    return sound.encoded(sound.made(0.1, 16_000), 16_000, kind, subtype)


def silence(seconds: int, rate: int, kind: str, subtype: str) -> bytes:
    """Encoded second by second: libvorbis ends the process when given much more at once."""
    file = io.BytesIO()
    with soundfile.SoundFile(file, "w", rate, 1, subtype, format=kind) as out:
        for _ in range(seconds):
            out.write(np.zeros(rate, np.float32))
    return file.getvalue()


def announcing(flac: bytes, frames: int) -> bytes:
    """With another count of samples in STREAMINFO (RFC 9639, section 8.2)."""
    changed = bytearray(flac)
    changed[21] = (changed[21] & 0xF0) | frames >> 32
    changed[22:26] = (frames & 0xFFFF_FFFF).to_bytes(4, "big")
    return bytes(changed)


def flac_block(kind: int, size: int) -> bytes:
    """A metadata block after STREAMINFO whose length is not what follows."""
    flac = bytearray(short("FLAC", "PCM_16"))
    flac[42:42] = bytes((kind,)) + size.to_bytes(3) + b"\xff\xff\xff\xff" * 4
    return bytes(flac)


def wav_with(name: bytes, size: int) -> bytes:
    """The size of chunk `name` changed."""
    wav = bytearray(short("WAV", "PCM_16"))
    at = wav.index(name) + 4
    wav[at : at + 4] = struct.pack("<I", size)
    return bytes(wav)


def chained(subtype: str, times: int) -> bytes:
    """Streams one after the other, each with a serial number of its own."""
    one = short("OGG", subtype)
    serial = one[14:18]
    return b"".join(
        checksums.ogg(one.replace(serial, number.to_bytes(4))) for number in range(1, times)
    )


BOMBS = {
    "FLAC that announces hours": lambda: announcing(short("FLAC", "PCM_16"), HOURS_S * 16_000),
    "FLAC of 20 minutes of silence": lambda: silence(1_200, 8_000, "FLAC", "PCM_16"),
    "FLAC with a picture of 16 MB": lambda: flac_block(6, 2**24 - 1),
    "FLAC with tags of 16 MB": lambda: flac_block(4, 2**24 - 1),
    "Vorbis of 20 minutes of silence": lambda: silence(1_200, 8_000, "OGG", "VORBIS"),
    "Vorbis with a codebook of a million entries": lambda: vorbis.file(20),
    "Opus and then a million beginnings of pages": lambda: (
        short("OGG", "OPUS") + b"OggS" * (2**20 - 2**14)
    ),
    "Opus of 2 minutes of silence": lambda: silence(120, 8_000, "OGG", "OPUS"),
    "WAV with a format of 4 GB": lambda: wav_with(b"fmt ", 0xFFFF_FFFF),
    "WAV of only chunks": lambda: b"RIFF\xff\xff\xff\xffWAVE" + b"junk\0\0\0\0" * 100_000,
}


@pytest.mark.parametrize("name", BOMBS)
def test_what_would_become_much_is_refused(
    voices: verification_pb2_grpc.VerificationServiceStub, name: str
) -> None:
    bomb = BOMBS[name]()
    code, message = refusal(
        lambda: voices.Embed(pb.EmbedRequest(audio_config=FILE, audio=bomb), timeout=CALL_S)
    )
    assert code is INVALID, message
    assert message.startswith("audio: ")


def test_of_chained_streams_no_more_is_heard_than_allowed(
    voices: verification_pb2_grpc.VerificationServiceStub,
) -> None:
    """Seventy seconds of them: refused, or only the first is heard."""
    request = pb.EmbedRequest(audio_config=FILE, audio=chained("OPUS", 700))
    try:
        reply = voices.Embed(request, timeout=CALL_S)
    except grpc.RpcError as refused:
        assert refused.code() is INVALID
    else:
        assert reply.quality.audio_s <= MAX_AUDIO_S


def test_of_a_file_no_more_is_heard_than_it_announces(
    voices: verification_pb2_grpc.VerificationServiceStub,
) -> None:
    less = announcing(silence(120, 8_000, "FLAC", "PCM_16"), 8_000)
    reply = voices.Embed(pb.EmbedRequest(audio_config=FILE, audio=less), timeout=CALL_S)
    assert reply.quality.audio_s == pytest.approx(1.0, abs=0.1)


def test_a_file_that_never_ends_is_not_held(
    voices: verification_pb2_grpc.VerificationServiceStub,
) -> None:
    head = pb.StreamingEnrollRequest(
        config=pb.EnrollConfig(speaker_id="endless", audio_config=FILE)
    )
    page = chained("OPUS", 12)[: 15 * 1024]
    endless = itertools.chain([head], itertools.repeat(pb.StreamingEnrollRequest(audio=page)))
    code, message = refusal(lambda: list(voices.StreamingEnroll(endless, timeout=CALL_S)))
    assert code is INVALID
    assert "send less" in message


def test_files_in_calls_are_recordings_and_take_no_more_memory(
    voices: verification_pb2_grpc.VerificationServiceStub,
) -> None:
    """Ten FLAC of 89 kB took 3.2 GB: a call may take an hour, and each was decoded at once."""
    owner = pb.StreamingEnrollRequest(config=pb.EnrollConfig(speaker_id="owner", audio_config=FILE))
    for path in clips("slt", "enroll"):
        list(voices.StreamingEnroll(iter([owner, *_pieces(path.read_bytes())])))
    bomb = silence(1_200, 8_000, "FLAC", "PCM_16")

    def call(_: int) -> tuple[grpc.StatusCode, str]:
        config = pb.StreamingVerifyConfig(speaker_id="owner", audio_config=FILE)
        audio = (pb.StreamingVerifyRequest(audio=each.audio) for each in _pieces(bomb))
        requests = itertools.chain([pb.StreamingVerifyRequest(config=config)], audio)
        return refusal(lambda: list(voices.StreamingVerify(requests, timeout=CALL_S)))

    with ThreadPoolExecutor(10) as pool:
        for code, message in pool.map(call, range(10)):
            assert code is INVALID
            assert f"limit of {MAX_AUDIO_S} s" in message


def _pieces(audio: bytes) -> Iterator[pb.StreamingEnrollRequest]:
    size = 15 * 1024
    return (
        pb.StreamingEnrollRequest(audio=audio[at : at + size]) for at in range(0, len(audio), size)
    )


def test_raw_audio_that_never_ends_is_refused_at_the_limit(
    voices: verification_pb2_grpc.VerificationServiceStub,
) -> None:
    head = pb.StreamingEnrollRequest(config=pb.EnrollConfig(speaker_id="endless", audio_config=RAW))
    endless = itertools.chain(
        [head], itertools.repeat(pb.StreamingEnrollRequest(audio=bytes(8_000)))
    )
    code, message = refusal(lambda: list(voices.StreamingEnroll(endless, timeout=CALL_S)))
    assert code is INVALID
    assert f"limit of {MAX_AUDIO_S} s" in message


def test_many_messages_of_no_audio_are_no_audio(
    voices: verification_pb2_grpc.VerificationServiceStub,
) -> None:
    head = pb.StreamingEnrollRequest(config=pb.EnrollConfig(speaker_id="empty", audio_config=RAW))
    empty = itertools.repeat(pb.StreamingEnrollRequest(audio=b""), 5_000)
    code, message = refusal(
        lambda: list(voices.StreamingEnroll(itertools.chain([head], empty), timeout=CALL_S))
    )
    assert code is INVALID
    assert "empty" in message


def test_messages_of_no_audio_for_ever_end_with_the_deadline(
    voices: verification_pb2_grpc.VerificationServiceStub,
) -> None:
    head = pb.StreamingEnrollRequest(config=pb.EnrollConfig(speaker_id="empty", audio_config=RAW))
    endless = itertools.chain([head], itertools.repeat(pb.StreamingEnrollRequest(audio=b"")))
    code, _ = refusal(lambda: list(voices.StreamingEnroll(endless, timeout=2.0)))
    assert code is grpc.StatusCode.DEADLINE_EXCEEDED
