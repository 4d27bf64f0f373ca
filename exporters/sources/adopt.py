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
from typing import IO, Any

from exporters import model_file
from exporters.countermeasures import CountermeasureCandidate
from exporters.errors import ExportError
from exporters.publish import Candidate, Windows
from exporters.sources import ARCHITECTURES, COUNTERMEASURES, NAMES, graft
from exporters.sources.graft import Features

_MAX_BYTES = 4 << 30
_CHUNK_BYTES = 1 << 20
_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Request:
    """What to adopt and how to describe it; None leaves a field to the model.

    `architecture` is a key of `ARCHITECTURES` or `COUNTERMEASURES`, needed for a checkpoint.
    `features` replaces what an ONNX file's metadata says about its input. `sha256` is that of the
    file.
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
    else:
        with _open(request) as (path, facts):
            yield _of_file(path, request, facts)


@contextmanager
def make_countermeasure(request: Request) -> Iterator[CountermeasureCandidate]:
    """The same for an architecture of `COUNTERMEASURES`."""
    architecture = request.architecture or ""
    assert architecture in COUNTERMEASURES
    with _open(request) as (path, facts):
        _require_checkpoint(path)
        candidate = COUNTERMEASURES[architecture](path)
        if request.windows is not None:
            window_s = candidate.window_samples / candidate.rate
            raise ExportError(
                f"{candidate.name} hears windows of {window_s:g} s and no others; leave out "
                "--window-s"
            )
        yield dataclasses.replace(
            candidate,
            name=request.name or candidate.name,
            provenance=_describe_origin(candidate.provenance, request, facts),
        )


@contextmanager
def _open(request: Request) -> Iterator[tuple[Path, dict[str, str]]]:
    """Yield the file, downloaded if need be, its digest checked, and what is known about it."""
    if request.source.startswith(("https://", "http://")):
        with download(request.source, request.sha256) as path:
            yield path, {"source": request.source, "checkpoint": model_file.digest(path)}
        return
    path = Path(request.source)
    if not path.is_file():
        raise ExportError(
            f"there is no file {request.source}, and no model of that name: "
            f"{', '.join(sorted(NAMES))}"
        )
    _require_digest(path, request.sha256, request.source)
    yield path, {"checkpoint": model_file.digest(path)}


def _require_checkpoint(path: Path) -> None:
    if path.suffix == ".onnx":
        raise ExportError("--architecture is for checkpoints; an ONNX file has its own")


def _of_file(path: Path, request: Request, facts: Mapping[str, str]) -> Candidate:
    if request.architecture is None and path.suffix == ".onnx":
        return _describe(graft.make_candidate(path, request.features), request, facts)
    known = ", ".join(sorted([*ARCHITECTURES, *COUNTERMEASURES]))
    if request.architecture is None:
        raise ExportError(f"a checkpoint needs --architecture, one of: {known}")
    _require_checkpoint(path)
    if request.architecture not in ARCHITECTURES:
        raise ExportError(f"{request.architecture} is not a known architecture: {known}")
    return _describe(ARCHITECTURES[request.architecture](path), request, facts)


def _describe(candidate: Candidate, request: Request, facts: Mapping[str, str]) -> Candidate:
    return dataclasses.replace(
        candidate,
        name=request.name or candidate.name,
        windows=request.windows or candidate.windows,
        provenance=_describe_origin(candidate.provenance, request, facts),
    )


def _describe_origin(
    known: Mapping[str, Any], request: Request, facts: Mapping[str, str]
) -> dict[str, Any]:
    """Put together the provenance; raises ExportError if nobody says the licence."""
    given = {"licence": request.licence, "source": request.origin}
    provenance = {**known, **facts, **{k: v for k, v in given.items() if v}}
    if not provenance.get("licence"):
        raise ExportError("say under which licence the weights are: --licence")
    return provenance


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
