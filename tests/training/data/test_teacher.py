from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from typer.testing import CliRunner

from training import config
from training.__main__ import app
from training.data import teacher
from training.data.library import Clip, Library, load_clips, read_manifest
from training.data.teacher import Targets
from training.errors import TeacherError
from training.runs import checkpoint

RATE_HZ = 16000
RECIPE = """
seed = 1
losses = [{ name = "distillation", weight = 10.0 }]
encoder = { name = "ecapa", width = 16, groups = 4, embedding_dim = 6 }
sampling = { speakers = 4, crop_s = [0.5], held_out_speakers = 0.3, speeds = [1.0, 0.9] }
schedule = { steps = 2, warmup_steps = 1, validate_every = 2 }
"""


@pytest.fixture(scope="module")
def library(corpus: Path) -> Library:
    return load_clips(read_manifest(corpus)[:24], RATE_HZ)


def model(path: Path, name: str = "waveform") -> Path:
    """Its embedding is the waveform's mean square and the least of its samples, both positive."""
    nodes = [
        onnx.helper.make_node("Mul", [name, name], ["squares"]),
        onnx.helper.make_node("ReduceMean", ["squares", "time"], ["power"], keepdims=1),
        onnx.helper.make_node("ReduceMax", [name, "time"], ["peak"], keepdims=1),
        onnx.helper.make_node("Concat", ["power", "peak"], ["embedding"], axis=1),
    ]
    real = onnx.TensorProto.FLOAT
    graph = onnx.helper.make_graph(
        nodes,
        "loudness",
        [onnx.helper.make_tensor_value_info(name, real, ["batch", "samples"])],
        [onnx.helper.make_tensor_value_info("embedding", real, ["batch", 2])],
        [onnx.numpy_helper.from_array(np.array([1], np.int64), "time")],
    )
    opset = onnx.helper.make_opsetid("", 18)
    onnx.save(onnx.helper.make_model(graph, opset_imports=[opset], ir_version=9), path)
    return path


def test_targets_are_what_the_teacher_makes_of_each_clip_at_each_speed(
    library: Library, tmp_path: Path
) -> None:
    heard = 0

    def advance() -> None:
        nonlocal heard
        heard += 1

    made = teacher.teach(
        model(tmp_path / "t.onnx"),
        library,
        sample_rate_hz=RATE_HZ,
        speeds=(1.0, 0.8),
        advance=advance,
    )
    assert heard == len(library.clips)
    assert made.embeddings.shape == (len(library.clips), 2, 2)
    clip = np.resize(library.audio[3] / np.float32(32768), RATE_HZ)  # short ones are repeated
    expected = np.array([np.mean(np.square(clip)), clip.max()])
    assert made.of(3, 1.0) == pytest.approx(expected / np.linalg.norm(expected), rel=1e-4)
    assert np.linalg.norm(made.embeddings, axis=2) == pytest.approx(1, abs=1e-5)


def test_only_the_middle_of_a_long_clip_is_heard(tmp_path: Path) -> None:
    loud_ends = np.full(10 * RATE_HZ, 30000, np.int16)
    loud_ends[3 * RATE_HZ : 7 * RATE_HZ] = 300
    clips = tuple(Clip(Path(f"{i}.wav"), "x", f"x/{i}") for i in range(2))
    made = teacher.teach(
        model(tmp_path / "t.onnx"),
        Library(clips, (loud_ends, loud_ends)),
        sample_rate_hz=RATE_HZ,
        speeds=(1.0,),
    )
    quiet = np.array([(300 / 32768) ** 2, 300 / 32768])
    assert made.of(0, 1.0) == pytest.approx(quiet / np.linalg.norm(quiet), rel=1e-3)


def test_targets_come_back_from_disk_and_know_their_data(library: Library, tmp_path: Path) -> None:
    made = Targets(
        np.random.default_rng(0).normal(size=(24, 2, 5)).astype(np.float32),
        (1.0, 0.9),
        library.digest(),
        "t.onnx sha256:0",
    )
    made.save(tmp_path / "new" / "targets.npz")
    loaded = Targets.load(tmp_path / "new" / "targets.npz")
    np.testing.assert_array_equal(loaded.embeddings, made.embeddings)
    assert (loaded.speeds, loaded.data_digest, loaded.teacher) == (
        made.speeds,
        made.data_digest,
        made.teacher,
    )
    chosen = loaded.for_run(library, (0.9,), [5, 2])
    np.testing.assert_array_equal(chosen.of(0, 0.9), made.embeddings[5, 1])
    with pytest.raises(TeacherError, match=r"lack the speed 1\.1"):
        loaded.for_run(library, (1.0, 1.1), [0])
    with pytest.raises(TeacherError, match="other data"):
        loaded.for_run(library.of(range(12)), (1.0,), [0])


def test_agreement_is_the_cosine_with_the_speakers_other_clips() -> None:
    heard = np.array([[1, 0], [1, 0], [0, 1], [0.6, 0.8]], np.float32)[:, None]
    made = Targets(heard, (1.0,), "", "t.onnx")
    cosines = made.agreement(["x/a", "x/a", "x/a", "x/b"])
    assert cosines == pytest.approx([2**-0.5, 2**-0.5, 0, 1], abs=1e-6)


def test_junk_is_no_teacher_and_holds_no_targets(library: Library, tmp_path: Path) -> None:
    junk = tmp_path / "junk"
    junk.write_bytes(b"PK\x03\x04 not really")
    with pytest.raises(TeacherError, match="sayso-train teach"):
        Targets.load(junk)
    for path, complaint in (
        (junk, "cannot be loaded"),
        (model(tmp_path / "features.onnx", "features"), "does not start at a waveform"),
    ):
        with pytest.raises(TeacherError, match=complaint):
            teacher.teach(path, library, sample_rate_hz=RATE_HZ, speeds=(1.0,))


def test_teach_then_distil_on_the_command_line(corpus: Path, tmp_path: Path) -> None:
    recipe, targets = tmp_path / "tiny.toml", tmp_path / "targets.npz"
    recipe.write_text(RECIPE)
    runner = CliRunner()
    common = ["--manifest", str(corpus)]
    taught = runner.invoke(
        app,
        ["teach", str(model(tmp_path / "t.onnx")), str(recipe), *common, "--output", str(targets)],
    )
    assert (taught.exit_code, taught.stdout) == (0, f"{targets}\n"), taught.output
    run = [
        "run",
        str(recipe),
        *common,
        *("--output", str(tmp_path / "run")),
        *("--workers", "0", "--threads", "1", "--device", "cpu"),
    ]
    without = runner.invoke(app, run)
    assert without.exit_code == 2
    assert "distillation needs the targets" in without.stderr
    trained = runner.invoke(app, [*run, "--targets", str(targets)])
    assert trained.exit_code == 0, trained.output
    kept = checkpoint.load(tmp_path / "run" / "last.pt")
    assert kept.progress.teacher is not None
    assert kept.progress.teacher.startswith("t.onnx sha256:")
    assert kept.recipe == config.load(recipe)
