"""Formats: what a caller declares about its audio, and checks of that."""

from dataclasses import dataclass

from service.audio.codecs import Codec
from service.errors import AudioError

MIN_SAMPLE_RATE = 8_000
MAX_SAMPLE_RATE = 48_000
MAX_CHANNELS = 2


@dataclass(frozen=True, slots=True)
class AudioFormat:
    """The caller's declaration; `sample_rate` in hertz.

    No `codec` means a file: WAV, FLAC, Opus in Ogg or WebM, or MP3. Without `sample_rate` or
    `channels` the file's header decides; raw audio needs its rate, and has one channel by default.
    `channel`, from 0, is the one that carries the speaker; audio of two channels needs it.
    """

    codec: type[Codec] | None = None
    sample_rate: int | None = None
    channels: int | None = None
    channel: int | None = None

    @property
    def is_file(self) -> bool:
        return self.codec is None

    def check(self) -> None:
        """Raise `AudioError` for raw audio that could not be read, whatever its bytes."""
        if self.codec is None:
            return
        if self.sample_rate is None:
            raise AudioError(
                "raw audio needs its sample rate in hertz", field="audio_config.sample_rate_hertz"
            )
        check_rate(self.sample_rate)
        choose_channel(self.raw_channels, self.channel)

    @property
    def raw_channels(self) -> int:
        return 1 if self.channels is None else self.channels

    def open_codec(self) -> Codec:
        """A decoder for one stream of this raw audio; raises `AudioError`."""
        self.check()
        assert self.codec is not None, "a file is read by its header"
        assert self.sample_rate is not None, "it was checked"
        return self.codec(self.sample_rate, self.raw_channels, self.channel or 0)


def check_header(fmt: AudioFormat, sample_rate: int | None, channels: int) -> None:
    """Raise `AudioError` if a file's header contradicts the caller; `sample_rate` is None if the
    file has none of its own: Opus always decodes to 48 kHz."""
    if sample_rate is not None and fmt.sample_rate not in {None, sample_rate}:
        raise AudioError(
            f"the file's header says {sample_rate} Hz, the request {fmt.sample_rate} Hz; "
            "correct it or leave it unset",
            field="audio_config.sample_rate_hertz",
        )
    if fmt.channels not in {None, channels}:
        raise AudioError(
            f"the file's header says {channels} channel(s), the request {fmt.channels}; "
            "correct it or leave it unset",
            field="audio_config.channels",
        )


def check_rate(sample_rate: int) -> None:
    if not MIN_SAMPLE_RATE <= sample_rate <= MAX_SAMPLE_RATE:
        raise AudioError(
            f"a sample rate of {sample_rate} Hz is outside {MIN_SAMPLE_RATE}..{MAX_SAMPLE_RATE} "
            "Hz; resample the audio",
            field="audio_config.sample_rate_hertz",
        )


def choose_channel(channels: int, channel: int | None) -> int:
    """Return the index of the speaker's channel; raises `AudioError` if it is unclear or
    missing."""
    if not 1 <= channels <= MAX_CHANNELS:
        raise AudioError(
            f"audio of {channels} channels is not supported; send 1 or 2",
            field="audio_config.channels",
        )
    if channel is None and channels > 1:
        raise AudioError(
            "the audio has two channels; say which one holds the speaker, 0 or 1",
            field="audio_config.channel",
        )
    if not 0 <= (channel or 0) < channels:
        raise AudioError(
            f"channel {channel} does not exist; the audio has {channels}, counted from 0",
            field="audio_config.channel",
        )
    return channel or 0
