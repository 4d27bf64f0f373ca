"""compare, picture and probe on one run."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from matplotlib.image import imread
from typer.testing import CliRunner

from tests.support.small_runs import recipe_of, run_training
from training.__main__ import app
from training.data.library import Library

LOSS = '[[losses]]\nname = "info_nce"\n'

runner = CliRunner()


@pytest.fixture(scope="module")
def runs(sittings: Library, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two that differ in seed, hence in the channels of their trials."""
    folders = [tmp_path_factory.mktemp("run") for _ in range(2)]
    for seed, folder in enumerate(folders):
        run_training(recipe_of(LOSS, steps="20", seed=str(seed)), sittings, folder)
    return folders


@pytest.fixture
def two_corpora(corpus: Path, tmp_path: Path) -> Path:
    """The made voices, every other one said to be of another corpus."""
    rows = list(csv.reader(corpus.read_text(encoding="utf-8").splitlines()))
    for row in rows[1:]:
        row[0] = str(corpus.parent / row[0])
        row[1] = ("even", "odd")[int(row[2][1:]) % 2]
    with (tmp_path / "two.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    return tmp_path / "two.csv"


def test_runs_beside_each_other(runs: list[Path]) -> None:
    result = runner.invoke(app, ["compare", *map(str, runs), "--json"])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert [run["folder"] for run in found] == [str(folder) for folder in runs]
    assert found[0]["trials"] != found[1]["trials"]
    assert "compare EERs with `sayso-evaluate`" in result.stderr

    table = runner.invoke(app, ["compare", str(runs[0])]).stdout
    for cell in (
        str(runs[0]),
        "ecapa width=32",
        "info_nce",
        "supervised",
        "20 of 20",
        f"{found[0]['eer_recorded']:.2%}",
        f"{found[0]['eer_crossed']:.2%}",
        found[0]["data_digest"][:12],
    ):
        assert cell in table


def test_a_folder_without_a_run_is_one_line(tmp_path: Path) -> None:
    result = runner.invoke(app, ["compare", str(tmp_path)])
    assert result.exit_code == 2
    assert result.stderr.startswith("error: ")


def test_a_picture_of_a_split(runs: list[Path], corpus: Path) -> None:
    arguments = ["picture", str(runs[0] / "best.pt"), "--manifest", str(corpus)]
    result = runner.invoke(app, [*arguments, "--split", "train", "--speakers", "5"])
    assert result.exit_code == 0, result.output
    assert result.stdout.strip() == str(runs[0] / "embeddings.png")
    assert imread(runs[0] / "embeddings.png").shape == (700, 800, 4)
    other = runner.invoke(app, arguments)
    assert other.exit_code == 2
    assert "split dev" in other.stderr


def test_a_probe_of_what_the_clips_allow(runs: list[Path], corpus: Path, two_corpora: Path) -> None:
    arguments = ["probe", str(runs[0] / "best.pt"), "--split", "train", "--manifest"]
    result = runner.invoke(app, [*arguments, str(two_corpora), "--json"])
    assert result.exit_code == 0, result.output
    (found,) = json.loads(result.stdout)
    assert (found["task"], found["classes"], found["speakers"]) == ("corpus", 2, 24)
    assert found["chance"] == 0.5
    table = runner.invoke(app, [*arguments, str(two_corpora)]).stdout
    assert f"{found['log_mel']['share']:.1%}" in table
    assert f"{found['encoder']['share']:.1%}" in table
    nothing = runner.invoke(app, [*arguments, str(corpus)])
    assert nothing.exit_code == 2
    assert "nothing to probe" in nothing.stderr
