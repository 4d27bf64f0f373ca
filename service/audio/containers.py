"""Containers: recognizes a kind of file by its first bytes, and says how to convert others."""

from service.errors import AudioError

READABLE = "WAV (PCM, float or G.711), FLAC, Opus in Ogg or WebM, and MP3"
MAGIC_BYTES = 16

_WAV_MAGIC = (b"RIFF", b"RIFX", b"RF64", b"BW64")
_ID3_BYTES = 10
_MP3_SYNC, _MP3_MASK = 0xFFE0, 0xFFE0
_LAYER_MASK, _LAYER_3 = 0x06, 0x02
_UNREADABLE: tuple[tuple[int, bytes, str], ...] = (
    (4, b"ftyp", "MP4 (M4A, 3GP or QuickTime)"),
    (4, b"moov", "QuickTime"),
    (0, b"#!AMR", "AMR"),
    (0, b".snd", "AU"),
    (0, b"FORM", "AIFF"),
    (0, b"caff", "CAF"),
    (0, b"riff\x2e\x91\xcf\x11", "Wave64"),
    (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "WMA"),
    (0, b"ADIF", "AAC"),
    (0, b"FLV\x01", "Flash video"),
    (0, b"wvpk", "WavPack"),
    (0, b"MAC ", "Monkey's Audio"),
    (0, b"#!SILK_V3", "SILK"),
    (1, b"#!SILK_V3", "SILK"),
)


def detect_kind(data: bytes | bytearray) -> str:
    """Return "WAV", "FLAC", "OGG", "WEBM" or "MP3"; raises `AudioError` for anything else."""
    if kind := _find_header(data) or _find_bare_mp3(data):
        return kind
    if name := _find_unreadable(data) or _find_bare_aac(data):
        raise AudioError(f"the audio is {name}, which is not read; {advise()}")
    raise AudioError(
        f"the audio is not {READABLE.replace('and MP3', 'or MP3')}; for raw audio say its "
        "encoding and sample rate"
    )


def refuse_in_raw(data: bytes, encoding: str) -> None:
    """Raise `AudioError` if audio that should have no header begins as a file does."""
    if name := _find_header(data) or _find_unreadable(data):
        raise AudioError(
            f"the audio is a file ({name}), not raw {encoding} samples; say AUDIO_ENCODING_FILE",
            field="audio_config.encoding",
        )


def advise() -> str:
    """Says what to do about a file that is not read."""
    return f"send {READABLE}. Convert it with `ffmpeg -i INPUT -ac 1 -ar 16000 OUTPUT.wav`"


def _find_header(data: bytes | bytearray) -> str | None:
    if data[:4] in _WAV_MAGIC and data[8:12] == b"WAVE":
        return "WAV"
    if data[:4] == b"fLaC":
        return "FLAC"
    if data[:4] == b"OggS":
        return "OGG"
    if data[:4] == b"\x1a\x45\xdf\xa3":
        return "WEBM"
    tagged = data[:3] == b"ID3" and len(data) >= _ID3_BYTES and data[3] in (2, 3, 4)
    return "MP3" if tagged else None


def _find_bare_mp3(data: bytes | bytearray) -> str | None:
    """Recognizes MP3 without a tag by two bytes, with which raw samples may begin, too."""
    sync = int.from_bytes(data[:2])
    layer_3 = sync & _LAYER_MASK == _LAYER_3
    return "MP3" if sync & _MP3_MASK == _MP3_SYNC and layer_3 and len(data) > 2 else None


def _find_unreadable(data: bytes | bytearray) -> str | None:
    for at, magic, name in _UNREADABLE:
        if data[at : at + len(magic)] == magic:
            return name
    return None


def _find_bare_aac(data: bytes | bytearray) -> str | None:
    """Recognizes AAC by a mark that is as short as that of MP3 without a tag."""
    is_adts = int.from_bytes(data[:2]) & 0xFFF6 == 0xFFF0
    return "AAC" if is_adts and len(data) > 2 and data[2] >> 2 & 15 < 13 else None
