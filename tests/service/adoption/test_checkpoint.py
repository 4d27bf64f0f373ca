"""A checkpoint's tensors are read as torch reads them; whatever else it holds is refused, unrun."""

import io
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from service.adoption import checkpoint
from service.adoption.checkpoint import read_tensors
from service.errors import ModelError
from tests.fuzz.checkpoints import read, read_index, replace_index, save, seeds


@pytest.fixture
def state() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    module = torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Linear(4, 2)
    )
    return dict(module.state_dict())


@pytest.mark.parametrize("kind", [dict, torch.nn.Module().state_dict().__class__])
def test_tensors_are_those_that_torch_saved(
    state: dict[str, torch.Tensor], kind: type, tmp_path: Path
) -> None:
    path = tmp_path / "model.pt"
    torch.save(kind(state), path)
    tensors = read_tensors(path)
    assert list(tensors) == list(state)
    for name, tensor in state.items():
        assert tensors[name].dtype == tensor.numpy().dtype
        np.testing.assert_array_equal(tensors[name], tensor.numpy())


def test_a_part_of_a_storage_and_an_empty_tensor() -> None:
    whole = torch.arange(12.0).reshape(4, 3)
    tensors = read(save({"rows": whole[1:3], "none": torch.zeros(0, 3), "one": torch.tensor(7.0)}))
    assert isinstance(tensors, dict)
    np.testing.assert_array_equal(tensors["rows"], [[3, 4, 5], [6, 7, 8]])
    assert tensors["none"].shape == (0, 3)
    assert tensors["one"] == 7


class Call:
    """Pickles as a call of anything."""

    def __init__(self, function: Callable[..., Any], *arguments: object) -> None:
        self._reduced = (function, arguments)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[object, ...]]:
        return self._reduced


@pytest.mark.parametrize("protocol", range(6))
def test_no_code_in_a_checkpoint_is_run(protocol: int, tmp_path: Path) -> None:
    trap = tmp_path / "ran"
    content = {"weight": Call(open, str(trap), "w")}
    poisoned = replace_index(seeds()[0], pickle.dumps(content, protocol))
    with pytest.raises(ModelError, match="pickle"):
        read(poisoned)
    assert not trap.exists()
    pickle.loads(pickle.dumps(content, protocol))["weight"].close()  # noqa: S301 - what it would do
    assert trap.exists()


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ({"state_dict": {"weight": torch.zeros(2)}}, "take its state_dict"),
        ({"weight": torch.zeros(2), "epoch": 3}, "beside its tensors"),
        ({1: torch.zeros(2)}, "keys that are no names"),
        ([torch.zeros(2)], "no named tensors"),
        ({}, "no named tensors"),
        ({"weight": torch.zeros(2, dtype=torch.float64)}, "torch.DoubleStorage"),
        ({"weight": torch.zeros(2, 3).t()}, "does not fit in its storage"),
        ({"weight": torch.nn.Parameter(torch.zeros(2))}, "_rebuild_parameter"),
    ],
    ids=str,
)
def test_what_is_no_dictionary_of_plain_tensors_is_refused(content: object, problem: str) -> None:
    with pytest.raises(ModelError, match=problem):
        read(save(content))


def rewrite(data: bytes, **how: Any) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(buffer, "w") as new:
        for name in old.namelist():
            content = how.get("change", lambda _, content: content)(name, old.read(name))
            new.writestr(name, content, compress_type=how.get("compression", zipfile.ZIP_STORED))
    return buffer.getvalue()


def test_a_compressed_file_is_refused_before_it_is_expanded() -> None:
    bomb = rewrite(
        save({"weight": torch.zeros(2)}),
        compression=zipfile.ZIP_DEFLATED,
        change=lambda name, content: bytes(100_000_000) if "/data/" in name else content,
    )
    assert len(bomb) < 200_000
    with pytest.raises(ModelError, match="compressed"):
        read(bomb)


def test_a_storage_of_another_size_than_the_index_says_is_refused() -> None:
    data = save({"weight": torch.zeros(2)})
    for change in (lambda content: content[:-4], lambda content: content + bytes(4)):
        with pytest.raises(ModelError, match="another size"):
            read(rewrite(data, change=lambda n, c, f=change: f(c) if "/data/" in n else c))


def test_more_than_the_limit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "_MAX_BYTES", 1000)
    with pytest.raises(ModelError, match="more than"):
        read(save({"weight": torch.zeros(1000)}))


@pytest.mark.parametrize("content", [b"", b"PK", b"\x80\x02}q\x00.", bytes(1000)])
def test_what_is_no_zip_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"model\.pt is damaged"):
        read_tensors(path)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="No such file"):
        read_tensors(tmp_path / "none.pt")


def test_every_cut_of_a_pickle_is_refused() -> None:
    index = read_index(seeds()[0])
    for length in range(len(index)):
        with pytest.raises(ModelError):
            read(replace_index(seeds()[0], index[:length]))
