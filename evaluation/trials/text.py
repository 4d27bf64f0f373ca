"""Text files as other tools write them.

UTF-8 or UTF-16, with or without a byte order mark, plain or gzip-compressed.
"""

from __future__ import annotations

import codecs
import gzip
import io
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

from evaluation.errors import EvaluationError, ListError

_UTF16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def read_lines(path: Path) -> Iterator[str]:
    """The lines of a file with their line ends.

    EvaluationError if it cannot be opened or is damaged, ListError on the first line in another
    encoding.
    """
    stream = _open(path)  # now, so that a missing file is reported before any work
    return _decode(path, stream)


def _decode(path: Path, stream: BinaryIO) -> Iterator[str]:
    try:
        with stream:
            mark = stream.read(2)
            stream.seek(0)
            encoding = "utf-16" if mark in _UTF16_MARKS else "utf-8-sig"
            with io.TextIOWrapper(stream, encoding, newline="") as decoded:
                yield from decoded
    except UnicodeDecodeError as error:
        raise ListError(
            path,
            _find_undecodable(path),
            "is neither UTF-8 nor UTF-16 with a byte order mark; if it is Latin-1, convert it:"
            f" iconv -f latin1 -t utf-8 {path.name}",
        ) from error
    except (OSError, EOFError, zlib.error) as error:
        raise EvaluationError(f"{path}: damaged, {error}") from error


def _find_undecodable(path: Path) -> int:
    """The first line that is not UTF-8; text is decoded in blocks, whose errors name no line."""
    with _open(path) as stream:
        for number, line in enumerate(stream, start=1):
            try:
                line.decode()
            except UnicodeDecodeError:
                return number
    return 1


def _open(path: Path) -> BinaryIO:
    try:
        if path.suffix == ".gz":
            return cast("BinaryIO", gzip.open(path, "rb"))
        return path.open("rb")
    except OSError as error:
        raise EvaluationError(f"{path}: {error.strerror}") from error
