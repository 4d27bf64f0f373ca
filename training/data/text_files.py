"""Text files that others wrote: UTF-8 with or without a mark, or UTF-16 with one."""

from __future__ import annotations

import codecs
from pathlib import Path

from training.errors import ManifestError

MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}


def read_text(path: Path) -> str:
    """The text with its line ends as they are; ManifestError if it cannot be read."""
    try:
        content = path.read_bytes()
        encoding = next((name for mark, name in MARKS.items() if content.startswith(mark)), "utf-8")
        return content.decode(encoding)
    except OSError as error:
        raise ManifestError(f"cannot read {path}: {error}") from error
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise ManifestError(
            f"{path} line {line} is not {error.encoding}; if it is Latin-1, convert it: "
            f"iconv -f LATIN1 -t UTF-8 {path.name} > utf8-{path.name}"
        ) from error
