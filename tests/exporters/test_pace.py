"""The weights that notice a wrong sample rate: fitted on some speakers, judged on others."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from evaluation.trials.sampling import Shard
from exporters import pace
from exporters.pace import Heard
from tests.support import voices

FEATURES = 20


def _heard(speakers: int, of_each: int) -> Heard:
    """Readings that differ along two directions, by speakers of either split."""
    rng = np.random.default_rng(0)
    readings = ("16 kHz", "8 kHz", "slow", "fast")
    shift = {"16 kHz": 0.0, "8 kHz": 0.0, "slow": 6.0, "fast": -6.0}
    rows = [
        (rng.normal(size=FEATURES) + shift[reading], split, f"{split}{speaker}", "any", reading)
        for split in pace.SPLITS
        for speaker in range(speakers)
        for _ in range(of_each)
        for reading in readings
    ]
    features, *labels = zip(*rows, strict=True)
    return Heard(np.array(features), *map(np.array, labels))


def test_a_threshold_is_above_all_that_is_right() -> None:
    heard = _heard(speakers=20, of_each=5)
    train = heard.split == "train"
    for name, weights in pace.fit(heard).items():
        found = pace.measure_excess(heard.features, np.asarray(weights, np.float64)) > 0
        assert not found[train & (heard.reading != name)].any()
        assert found[heard.reading == name].mean() > 0.9


def test_speakers_of_the_dev_split_have_no_part_in_the_weights() -> None:
    heard = _heard(speakers=20, of_each=5)
    others = np.where((heard.split == "dev")[:, np.newaxis], 100.0, heard.features)
    for mine, theirs in zip(
        pace.fit(heard).values(),
        pace.fit(Heard(others, heard.split, heard.speaker, heard.line, heard.reading)).values(),
        strict=True,
    ):
        np.testing.assert_array_equal(mine, theirs)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """A manifest of the demo's speakers, one of them in the train split."""
    rows = ["path,corpus,speaker,split,seconds"]
    for who in ("awb", "rms"):
        split = "train" if who == "awb" else "dev"
        for path in voices.clips(who, ""):
            rows.append(f"{path},demo,{who},{split},{soundfile.info(path).duration}")
    manifest = tmp_path / "manifest.csv"
    manifest.write_text("\n".join(rows))
    return manifest


def test_a_recording_is_heard_at_every_rate(table: Path, tmp_path: Path) -> None:
    output = tmp_path / "features.npz"
    pace.listen(table, output, "dev", Shard(0, 1), 2)
    heard = Heard.load([output])
    assert set(heard.speaker) == {"demo/rms"}
    assert list(heard.reading[:3]) == ["16 kHz", "8 kHz", "slow"]
    assert np.isfinite(heard.features).all()
