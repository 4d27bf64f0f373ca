from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import soundfile
from onnx import TensorProto, helper
from typer.testing import CliRunner

from evaluation.__main__ import app

RATE_HZ = 16000
runner = CliRunner()


@pytest.fixture
def key(tmp_path: Path) -> Path:
    """Twelve speakers: bona fide clips are loud, spoofed ones quiet, those of `loud` nearly not."""
    rng = np.random.default_rng(0)
    levels = {"bonafide": 0.2, "quiet": 0.02, "loud": 0.15}
    lines = ["path,corpus,speaker,split,attack,kind,language"]
    for speaker in range(12):
        for attack, level in levels.items():
            name = f"{speaker}-{attack}.wav"
            speech = level * rng.standard_normal(RATE_HZ)
            soundfile.write(tmp_path / name, np.clip(speech, -1, 1), RATE_HZ)
            lines.append(f"{name},made,s{speaker},dev,{attack},x,en")
    path = tmp_path / "manifest.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def loudness(tmp_path: Path) -> Path:
    """A model whose logit is 100 (mean square - 0.01): above 0 if the RMS is above 0.1."""
    nodes = [
        helper.make_node("Mul", ["waveform", "waveform"], ["square"]),
        helper.make_node("ReduceMean", ["square", "axes"], ["power"], keepdims=0),
        helper.make_node("Sub", ["power", "offset"], ["above"]),
        helper.make_node("Mul", ["above", "scale"], ["logit"]),
    ]
    constants = [
        helper.make_tensor("axes", TensorProto.INT64, [1], [1]),
        helper.make_tensor("offset", TensorProto.FLOAT, [], [0.01]),
        helper.make_tensor("scale", TensorProto.FLOAT, [], [100.0]),
    ]
    graph = helper.make_graph(
        nodes,
        "loudness",
        [helper.make_tensor_value_info("waveform", TensorProto.FLOAT, ["batch", 8000])],
        [helper.make_tensor_value_info("logit", TensorProto.FLOAT, ["batch"])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    path = tmp_path / "loudness.onnx"
    onnx.save(model, path)
    return path


def read_report(folder: Path) -> dict:
    return json.loads((folder / "spoofing.json").read_text())


def test_a_model_is_measured_by_attack_and_channel(
    key: Path, loudness: Path, tmp_path: Path
) -> None:
    arguments = ["spoofing", str(key), "--split", "dev", "--model", str(loudness)]
    chosen = ["--channel", "recorded,telephone", "--seconds", "0.5,1", "--threshold", "0.5"]
    output = ["--output", str(tmp_path / "report"), "--replicates", "20"]
    result = runner.invoke(app, [*arguments, *chosen, *output])
    assert result.exit_code == 0, result.output
    conditions = read_report(tmp_path / "report")["conditions"]
    assert list(conditions) == [
        *("recorded, 0.5 s", "recorded, 1 s", "telephone, 0.5 s", "telephone, 1 s"),
    ]
    rows = {row["attack"]: row for row in conditions["recorded, 1 s"]["attacks"]}
    assert list(rows) == ["all", "loud", "quiet"]
    assert rows["all"]["spoofed"] == 24
    assert rows["quiet"]["figures"]["eer"] == 0
    # Mean squares are 0.04, 0.0225 and 0.0004: logits 3, 1.25 and -0.96, so `loud` is missed.
    assert rows["loud"]["missed"] == 1
    assert rows["quiet"]["missed"] == 0
    [alarm, language] = conditions["recorded, 1 s"]["alarms"]
    assert alarm["false_alarms"] == 0
    assert (language["group"], language["value"], language["speakers"]) == ("language", "en", 12)
    # A telephone line draws a level, so loudness says nothing there.
    assert conditions["telephone, 1 s"]["attacks"][0]["figures"]["eer"] > 0.2


def test_thresholds_of_a_half_come_from_the_other_half(tmp_path: Path) -> None:
    lines, scores = [], []
    for n in range(200):
        lines += [f"s{n} b{n} - - bonafide", f"s{n} f{n} - A07 spoof"]
        scores += [f"b{n} {n}", f"f{n} -1"]
    (tmp_path / "key.txt").write_text("\n".join(lines))
    (tmp_path / "cm.txt").write_text("\n".join(scores))
    arguments = ["spoofing", str(tmp_path / "key.txt"), "--scores", str(tmp_path / "cm.txt")]
    output = ["--output", str(tmp_path / "report"), "--replicates", "0"]
    result = runner.invoke(app, [*arguments, "--false-alarms", "0.1", *output])
    assert result.exit_code == 0, result.output
    report = read_report(tmp_path / "report")
    assert len(report["thresholds"]) == 2
    assert all(10 < threshold < 30 for threshold in report["thresholds"])
    [condition] = report["conditions"].values()
    assert condition["alarms"][0]["false_alarms"] == pytest.approx(0.1, abs=0.04)
    assert condition["attacks"][0]["missed"] == 0


def test_scores_with_a_speaker_model(tmp_path: Path) -> None:
    (tmp_path / "key.txt").write_text(
        "".join(f"s{n} b{n} - - bonafide\ns{n} f{n} - A07 spoof\n" for n in range(6))
    )
    (tmp_path / "cm.txt").write_text("".join(f"b{n} {2 + n}\nf{n} {-2 - n}\n" for n in range(6)))
    (tmp_path / "asv.txt").write_text(
        "".join(
            f"s{n} b{n} bonafide target {5 + n}\ns{n} b{(n + 1) % 6} bonafide nontarget {-n}\n"
            f"s{n} f{n} A07 spoof {5 + n}\n"
            for n in range(6)
        )
    )
    files = ["--scores", str(tmp_path / "cm.txt"), "--asv-scores", str(tmp_path / "asv.txt")]
    output = ["--output", str(tmp_path / "report"), "--replicates", "20"]
    result = runner.invoke(app, ["spoofing", str(tmp_path / "key.txt"), *files, *output])
    assert result.exit_code == 0, result.output
    [condition] = read_report(tmp_path / "report")["conditions"].values()
    assert condition["tandem"]["trials"] == {"nontarget": 6, "spoof": 6, "target": 6}
    low, value, high = condition["tandem"]["a_dcf"]
    assert low == value == high == 0
    assert condition["tandem"]["t_eer"][1] == 0
    # Without the countermeasure every spoof scores as a target: rejecting all costs 0.9, the least.
    assert condition["tandem"]["a_dcf_of_verification"][1] == pytest.approx(1.0)


def test_errors_are_one_line(key: Path, loudness: Path, tmp_path: Path) -> None:
    (tmp_path / "scores.txt").write_text("0-bonafide.wav 1\n")
    scores = ["--scores", str(tmp_path / "scores.txt")]
    model = ["--model", str(loudness)]
    for options, message in (
        ([], "give either --scores or --model"),
        ([*scores, *model], "give either --scores or --model"),
        ([*scores, "--threshold", "0", "--false-alarms", "0.1"], "--threshold or --false-alarms"),
        (scores, "35 of 36 clips have no score"),
        ([*model, "--channel", "radio"], "no channel radio"),
        ([*model, "--audio", str(tmp_path / "none")], "is missing; --audio names the folder"),
    ):
        result = runner.invoke(app, ["spoofing", str(key), *options])
        assert result.exit_code == 2, options
        assert message in result.stderr.replace("\n", " ")
