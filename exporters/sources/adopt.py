"""Someone else's model as a candidate for publishing.

resemblyzer ────────────────> its package's weights ──> exporters.sources
FILE.pt  --architecture A ──> exporters.sources
FILE.onnx ──────────────────> exporters.sources.graft
https://... --sha256 D ─────> download, checked, then as a file
"""

from __future__ import annotations

import dataclasses
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from exporters import model_file
from exporters.errors import ExportError
from exporters.publish import Candidate, Windows
from exporters.sources import ARCHITECTURES, NAMES, graft
from exporters.sources.graft import Features

_MAX_BYTES = 4 << 30
_CHUNK_BYTES = 1 << 20
_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Request:
    """What to adopt and how to describe it; None leaves a field to the model.

    `architecture` is a key of `ARCHITECTURES`, needed for a checkpoint. `features` replaces what an
    ONNX file's metadata says about its input. `sha256` is that of the file.
    """

    source: str
    architecture: str | None = None
    features: Features | None = None
    name: str | None = None
    windows: Windows | None = None
    licence: str | None = None
    origin: str | None = None
    sha256: str | None = None


@contextmanager
def make_candidate(request: Request) -> Iterator[Candidate]:
    """Make the candidate that `request` describes; a downloaded file lasts as long as the context.

    Raises `ExportError` naming what is wrong, or which option is missing.
    """
    if request.source in NAMES:
        yield _describe(NAMES[request.source](None), request, {})
    elif request.source.startswith(("https://", "http://")):
        with download(request.source, request.sha256) as path:
            yield _of_file(path, request, {"source": request.source})
    else:
        path = Path(request.source)
        if not path.is_file():
            raise ExportError(
                f"there is no file {request.source}, and no model of that name: "
                f"{', '.join(sorted(NAMES))}"
            )
        _require_digest(path, request.sha256, request.source)
        yield _of_file(path, request, {})


def _of_file(path: Path, request: Request, facts: Mapping[str, str]) -> Candidate:
    facts = {**facts, "checkpoint": model_file.digest(path)}
    if path.suffix == ".onnx":
        if request.architecture is not None:
            raise ExportError("--architecture is for checkpoints; an ONNX file has its own")
        return _describe(graft.make_candidate(path, request.features), request, facts)
    known = ", ".join(sorted(ARCHITECTURES))
    if request.architecture is None:
        raise ExportError(f"a checkpoint needs --architecture, one of: {known}")
    if request.architecture not in ARCHITECTURES:
        raise ExportError(f"{request.architecture} is not a known architecture: {known}")
    return _describe(ARCHITECTURES[request.architecture](path), request, facts)


def _describe(candidate: Candidate, request: Request, facts: Mapping[str, str]) -> Candidate:
    given = {"licence": request.licence, "source": request.origin}
    provenance = {**candidate.provenance, **facts, **{k: v for k, v in given.items() if v}}
    if not provenance.get("licence"):
        raise ExportError("say under which licence the weights are: --licence")
    return dataclasses.replace(
        candidate,
        name=request.name or candidate.name,
        windows=request.windows or candidate.windows,
        provenance=provenance,
    )


@contextmanager
def download(url: str, sha256: str | None) -> Iterator[Path]:
    """Download `url` into a temporary folder and check its digest."""
    if sha256 is None:
        raise ExportError("a download needs --sha256, the digest that its publisher states")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / (Path(urllib.parse.urlsplit(url).path).name or "model")
        try:
            with urllib.request.urlopen(url, timeout=_TIMEOUT_S) as reply, path.open("wb") as file:  # noqa: S310 http(s) only
                _copy(reply, file)
        except (urllib.error.URLError, OSError) as error:
            raise ExportError(f"cannot download {url}: {error}") from error
        _require_digest(path, sha256, url)
        yield path


def _copy(reply: IO[bytes], file: IO[bytes]) -> None:
    received = 0
    while chunk := reply.read(_CHUNK_BYTES):
        received += len(chunk)
        if received > _MAX_BYTES:
            raise ExportError(f"the download is larger than {_MAX_BYTES >> 30} GiB")
        file.write(chunk)


def _require_digest(path: Path, wanted: str | None, source: str) -> None:
    if wanted is None:
        return
    actual = model_file.digest(path)
    if actual.removeprefix("sha256:") != wanted.lower().removeprefix("sha256:"):
        raise ExportError(f"{source} has {actual}, not {wanted}")
