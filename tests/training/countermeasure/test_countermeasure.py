from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from scipy import signal
from typer.testing import CliRunner

from training.__main__ import app
from training.countermeasure import clips, train
from training.countermeasure.network import LightCnn, LinearSpectrum, MaxFeatureMap
from training.countermeasure.recipe import Network, load
from training.countermeasure.sampler import GENUINE, SPOOFED, ClassSampler
from training.errors import CheckpointError, ConfigError, ManifestError

RATE_HZ = 16000
RECIPE = """
window_s = 0.5
batch = 8
held_out_speakers = 0.4
[augmentation]
noise = 0.0
babble = 0.0
room = 0.0
telephone = 0.0
equaliser = 0.0
[network]
bands = 32
width = 4
embedding_dim = 4
dropout = 0.0
[schedule]
steps = 60
warmup_steps = 5
learning_rate = 1e-2
average_decay = 0.9
validate_every = 30
"""
runner = CliRunner()


@pytest.fixture
def spoofs(tmp_path: Path) -> Path:
    """Eight speakers: bona fide clips are noise, spoofed ones lack what is above 2 kHz."""
    path = tmp_path / "manifest.csv"
    rng = np.random.default_rng(0)
    low = signal.butter(8, 2000, fs=RATE_HZ, output="sos")
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "corpus", "speaker", "split", "attack"])
        for speaker in range(8):
            for attack in ("bonafide", "muffled", "silenced"):
                speech = 0.1 * rng.standard_normal(RATE_HZ)
                if attack != "bonafide":
                    speech = signal.sosfilt(low, speech)
                name = f"{speaker}-{attack}.wav"
                soundfile.write(tmp_path / name, speech, RATE_HZ)
                writer.writerow([name, "made", f"s{speaker}", "train", attack])
    return path


def run(spoofs: Path, output: Path, *options: str) -> list[str]:
    recipe = spoofs.parent / "recipe.toml"
    recipe.write_text(RECIPE)
    arguments = ["countermeasure", str(recipe), "--manifest", str(spoofs), "--output", str(output)]
    result = runner.invoke(app, [*arguments, *options])
    assert result.exit_code == 0, result.output
    return result.stderr.splitlines()


def test_learns_what_the_spoofs_lack(spoofs: Path, tmp_path: Path) -> None:
    lines = run(spoofs, tmp_path / "run")
    assert "step 60: EER 0.00%" in lines[-1]
    _, network, provenance = train.load_network(tmp_path / "run" / "last.pt")
    assert provenance.attacks == ("bonafide", "muffled", "silenced")
    material = clips.load(spoofs, RATE_HZ)
    waveforms = torch.from_numpy(np.stack(material.library.audio)[:, :8000] / 32768).float()
    with torch.no_grad():
        logits = network(waveforms).numpy()
    genuine = np.array(material.attacks) == "bonafide"
    assert logits[genuine].min() > logits[~genuine].max()


def test_a_stopped_run_goes_on_bit_for_bit(spoofs: Path, tmp_path: Path) -> None:
    run(spoofs, tmp_path / "whole")
    run(spoofs, tmp_path / "parts", "--max-minutes", "0")
    assert train.read(tmp_path / "parts" / "last.pt")["step"] == 1
    run(spoofs, tmp_path / "parts", "--resume")
    whole, parts = (train.read(tmp_path / name / "last.pt") for name in ("whole", "parts"))
    for name, weight in whole["average"].items():
        assert torch.equal(weight, parts["average"][name]), name


def test_a_run_is_not_overwritten(spoofs: Path, tmp_path: Path) -> None:
    run(spoofs, tmp_path / "run", "--max-minutes", "0")
    recipe = str(spoofs.parent / "recipe.toml")
    arguments = ["countermeasure", recipe, "--manifest", str(spoofs)]
    result = runner.invoke(app, [*arguments, "--output", str(tmp_path / "run")])
    assert result.exit_code == 2
    assert "continue it with --resume" in result.stderr


def test_a_run_begins_with_the_weights_of_another(spoofs: Path, tmp_path: Path) -> None:
    run(spoofs, tmp_path / "first")
    first = tmp_path / "first" / "last.pt"
    _, network, _ = train.load_network(first)
    begun = LightCnn(train.load_network(first)[0].network, RATE_HZ)
    train.begin_from(begun, first)
    for one, other in zip(begun.parameters(), network.parameters(), strict=True):
        assert torch.equal(one, other)
    with pytest.raises(CheckpointError, match="another network"):
        train.begin_from(LightCnn(Network(), RATE_HZ), first)
    lines = run(spoofs, tmp_path / "second", "--start-from", str(first), "--max-minutes", "0")
    assert lines == ["no noise folder: voices will be the only noise"]
    assert train.read(tmp_path / "second" / "last.pt")["step"] == 1


def test_a_run_of_other_clips_is_not_resumed(spoofs: Path, tmp_path: Path) -> None:
    run(spoofs, tmp_path / "run", "--max-minutes", "0")
    arguments = ["--manifest", str(spoofs), "--output", str(tmp_path / "run"), "--resume"]
    recipe = str(spoofs.parent / "recipe.toml")
    result = runner.invoke(app, ["countermeasure", recipe, *arguments, "--leave-out", "muffled"])
    assert result.exit_code == 2
    assert "from other data" in result.stderr


def test_attacks_that_are_left_out_are_not_learned(spoofs: Path) -> None:
    left = clips.load(spoofs, RATE_HZ, left_out=["muffled"])
    assert set(left.attacks) == {"bonafide", "silenced"}
    with pytest.raises(ManifestError, match="bona fide and spoofed"):
        clips.load(spoofs, RATE_HZ, left_out=["muffled", "silenced"])


def test_batches_are_half_bona_fide_and_alike_in_attacks() -> None:
    attacks = ["bonafide"] * 90 + ["common"] * 90 + ["rare"]
    sampler = ClassSampler(attacks, ["made"] * 181, batch=40, window_s=1.0, seed=0)
    views = [view for step in range(20) for view in sampler.draw(step).views]
    genuine = [view for view in views if view.label == GENUINE]
    spoofed = [view for view in views if view.label == SPOOFED]
    assert len(genuine) == len(spoofed) == 400
    assert all(attacks[view.clip] == "bonafide" for view in genuine)
    rare = sum(attacks[view.clip] == "rare" for view in spoofed)
    assert 160 < rare < 240
    assert sampler.draw(3) == sampler.draw(3)


def test_both_classes_weigh_the_same() -> None:
    labels = torch.tensor([GENUINE] + [SPOOFED] * 3)
    loss = train.compute_loss(torch.tensor([2.0, 2.0, 2.0, 2.0]), labels)
    expected = 0.5 * np.log1p(np.exp(-2.0)) + 0.5 * np.log1p(np.exp(2.0))
    assert loss.item() == pytest.approx(expected, rel=1e-6)


def test_max_feature_map_takes_the_larger_of_a_pair() -> None:
    hidden = torch.tensor([[[1.0], [5.0], [3.0], [2.0]]])
    assert MaxFeatureMap()(hidden).tolist() == [[[3.0], [5.0]]]


def test_the_spectrum_is_linear_and_knows_no_level() -> None:
    spectrum = LinearSpectrum(128, RATE_HZ)
    time_s = torch.arange(RATE_HZ) / RATE_HZ
    tone = (torch.sin(2 * np.pi * 3000 * time_s) * (time_s > 0.5))[None]
    bands = spectrum(tone)
    assert bands.shape == (1, 2, 128, 61)
    # Bin 96 of 31.25 Hz; without that of 0 Hz it is the second of the 48th pair.
    assert divmod(int(bands[0, :, :, -1].T.flatten().argmax()), 2) == (47, 1)
    assert torch.allclose(spectrum(tone * 0.1), bands, atol=1e-2)


def test_a_score_does_not_depend_on_the_batch() -> None:
    torch.manual_seed(0)
    network = LightCnn(Network(), RATE_HZ).eval()
    waveforms = torch.randn(3, 48000)
    with torch.no_grad():
        together, alone = network(waveforms), network(waveforms[1:2])
    assert together.shape == (3,)
    assert torch.allclose(together[1:2], alone, atol=1e-5)


def test_the_recipe_of_the_project_is_read_and_an_unknown_key_is_named(tmp_path: Path) -> None:
    assert load("countermeasure").window_samples == 32000
    path = tmp_path / "bad.toml"
    path.write_text("windows = 3\n[schedule]\nsteps = 1\n")
    with pytest.raises(ConfigError, match="windows"):
        load(path)
    with pytest.raises(ConfigError, match="countermeasure"):
        load("nothing")
    with pytest.raises(CheckpointError, match="no checkpoint"):
        train.load_network(path)
