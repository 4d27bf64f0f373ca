"""Write a model file with another contract: every byte of graph and weights stays as it is."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from evaluation.errors import EvaluationError
from service import onnx_file
from service.contract import METADATA_KEY, Contract
from service.inference.session import get_digest_path

_METADATA = 14  # ModelProto.metadata_props of onnx.proto: entries of key = 1, value = 2
_KEY, _VALUE = 1, 2
_VARINT, _LENGTH = 0, 2


def require_other(source: Path, output: Path) -> None:
    """Raise EvaluationError if the tuned model would replace the one that it is made from."""
    if output.resolve() == source.resolve():
        raise EvaluationError(f"{output} is the model itself; choose another --output")


def write_contract(source: Path, contract: Contract, output: Path) -> None:
    """Write the model in `source` with `contract` to `output`, and its digest beside it.

    Raises EvaluationError if it cannot be written, or if the contract is another model's.
    """
    data = source.read_bytes()
    changed = replace_contract(data, contract)
    beside = get_digest_path(output)
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        beside.unlink(missing_ok=True)  # a model with no digest loads, one with an older digest not
        _write_whole(output, changed)
        _write_whole(beside, f"{hashlib.sha256(changed).hexdigest()}  {output.name}\n".encode())
    except OSError as error:
        raise EvaluationError(f"cannot write {output}: {error.strerror or error}") from error


def replace_contract(model: bytes, contract: Contract) -> bytes:
    """Replace the contract in the bytes of an ONNX model.

    The model id names the embedding space, so EvaluationError for a contract with another one.
    """
    parts, own = [], {}
    for number, value in onnx_file.read_fields(memoryview(model)):
        key, text = _read_entry(value) if number == _METADATA else ("", "")
        if key == METADATA_KEY:
            own[key] = text
        else:
            parts.append(_encode(number, value))
    if Contract.from_metadata(own).model_id != contract.model_id:
        raise EvaluationError(f"{contract.model_id} is the contract of another model")
    for key, text in contract.to_metadata().items():
        entry = _encode(_KEY, key.encode()) + _encode(_VALUE, text.encode())
        parts.append(_encode(_METADATA, entry))
    return b"".join(parts)


def _read_entry(entry: int | memoryview) -> tuple[str, str]:
    """Read key and value of a metadata entry."""
    assert isinstance(entry, memoryview), "metadata_props is a message"
    cells = {
        number: bytes(value).decode()
        for number, value in onnx_file.read_fields(entry)
        if isinstance(value, memoryview)
    }
    return cells.get(_KEY, ""), cells.get(_VALUE, "")


def _encode(number: int, value: int | memoryview | bytes) -> bytes:
    """Encode a field; a ModelProto has numbers and lengths only."""
    if isinstance(value, int):
        return _encode_varint(number << 3 | _VARINT) + _encode_varint(value)
    return _encode_varint(number << 3 | _LENGTH) + _encode_varint(len(value)) + bytes(value)


def _encode_varint(value: int) -> bytes:
    return bytes(_split_varint(value))


def _split_varint(value: int) -> Iterator[int]:
    while value > 0x7F:
        yield value & 0x7F | 0x80
        value >>= 7
    yield value


def _write_whole(path: Path, data: bytes) -> None:
    """Write so that the file is the old or the new one, never a part."""
    with tempfile.NamedTemporaryFile(
        dir=path.parent, prefix=f".{path.name}.", delete=False
    ) as file:
        temporary = Path(file.name)
        try:
            file.write(data)
            file.flush()
            temporary.chmod(0o644)
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
