"""Arguments and options that several commands share, and the connection to the server they name."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import sayso
import typer
from sayso import ENCODINGS, Client, RawAudio

from service.commands.access import Access
from service.commands.terminal import one_line_errors
from service.errors import Unavailable

LOCAL = "127.0.0.1:50051"


def _check_encoding(name: str) -> str:
    if name not in ENCODINGS:
        raise typer.BadParameter(f"{name!r} is none of {', '.join(ENCODINGS)}")
    return name


Server = Annotated[
    str, typer.Option("--server", envvar="SAYSO_SERVER", help="The server's host:port.")
]
SpeakerId = Annotated[str, typer.Argument(help="Your own id for the speaker, 1 to 128 characters.")]
OptionalSpeakerId = Annotated[
    str | None, typer.Argument(help="Your own id for the speaker, 1 to 128 characters.")
]
OptionalRecordings = Annotated[
    list[Path] | None,
    typer.Argument(
        help="WAV, FLAC, Opus in Ogg or WebM, or MP3; raw samples with --encoding.",
        exists=True,
        dir_okay=False,
    ),
]
SpeakerIds = Annotated[list[str], typer.Argument(help="Ids of speakers.")]
GroupName = Annotated[str, typer.Argument(help="The group's name, 1 to 64 characters.")]
Recordings = Annotated[
    list[Path],
    typer.Argument(
        help="WAV, FLAC, Opus in Ogg or WebM, or MP3; raw samples with --encoding.",
        exists=True,
        dir_okay=False,
    ),
]
EncodingOption = Annotated[
    str | None,
    typer.Option(
        parser=_check_encoding,
        metavar=f"[{'|'.join(ENCODINGS)}]",
        help="For raw samples without a header: how they are encoded.",
    ),
]
Rate = Annotated[int | None, typer.Option(help="For raw samples: hertz, 8000 to 48000.")]
ChannelOption = Annotated[
    int | None,
    typer.Option(help="The speaker's channel, from 0; for two-channel audio.", min=0, max=1),
]
Watchlists = Annotated[
    list[str] | None,
    typer.Option("--watchlist", help="A group to screen the voice against; may be repeated."),
]
PolicyName = Annotated[
    str,
    typer.Option(
        "--policy",
        help="A policy of the server to decide by; `sayso info --server` lists them. [its default]",
        show_default=False,
    ),
]
Consent = Annotated[
    str | None, typer.Option(help="Your own reference to the speaker's consent, given now.")
]


def parse_raw_audio(encoding: str | None, sample_rate: int | None) -> RawAudio | None:
    """Parse the format of raw samples; None for a file.

    Raises `typer.BadParameter` if the rate is missing: at a guessed rate it is another voice.
    """
    if encoding is None:
        return None
    if sample_rate is None:
        raise typer.BadParameter(
            "raw samples say no rate; give it in hertz, e.g. 8000", param_hint="--sample-rate"
        )
    return RawAudio(encoding, sample_rate)


@contextmanager
def connect(server: str, *, timeout_s: float = 30.0) -> Iterator[Client]:
    """A connected client; an error that the user can act on becomes one line and exit status 2."""
    with one_line_errors(), Access.read().open_client(server, timeout_s=timeout_s) as client:
        try:
            yield client
        except sayso.Unavailable as error:
            raise Unavailable(
                f"{server} is unavailable: {error}; see whether a server runs there, and what "
                f"`sayso health --server {server}` says"
            ) from error
