"""The README does what it says: its client as it stands, its commands on small data."""

import csv
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.local_server import LocalServer
from tests.support.sayso_server import ROOT

README = (ROOT / "README.md").read_text()
DATA = ROOT.parent / "shared" / "data"
BIN = Path(sys.executable).parent
TINY_RECIPE = """
sampling = { speakers = 8, crop_s = [1.0], held_out_speakers = 0.3 }
encoder = { name = "ecapa", width = 32, groups = 4, stride = 2, embedding_dim = 32 }
losses = [{ name = "info_nce" }]
schedule = { steps = 4, warmup_steps = 1, validate_every = 4 }
"""


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def commands(tool: str) -> list[list[str]]:
    """The README's shell commands that run a tool of this project, split into words."""
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    words = [shlex.split(line) for line in lines]
    return [command for command in words if Path(command[0]).name.startswith(tool)]


def run(command: list[str], changes: dict[str, str]) -> str:
    """Runs a README command with its paths replaced by those of `changes`."""
    program = BIN / Path(command[0]).name
    arguments = [changes.get(word, word) for word in command[1:]]
    done = subprocess.run(
        [program, *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, (command, done.stdout, done.stderr)
    return done.stdout


def test_the_client_works_as_printed(sqlite_server: LocalServer) -> None:
    (program,) = blocks("python")
    assert len(program.splitlines()) < 15
    program = program.replace("127.0.0.1:50051", sqlite_server.address)
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.split()[0] in {"ACCEPTED", "REJECTED"}


def test_the_serving_commands_work(
    sqlite_server: LocalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SAYSO_SERVER", sqlite_server.address)
    asked = [command for command in commands("sayso") if Path(command[0]).name == "sayso"]
    assert [command[1] for command in asked].count("serve") == 1
    for command in asked:
        if command[1] != "serve":  # which the fixture has done
            run(command, {})


@pytest.mark.skipif(not DATA.is_dir(), reason="needs ../shared/data")
def test_the_learning_commands_make_a_model(tmp_path: Path) -> None:
    recipe = tmp_path / "tiny.toml"
    recipe.write_text(TINY_RECIPE)
    changes = {
        "first": str(recipe),
        "../shared/data/manifest.csv": str(_small_manifest(tmp_path)),
        "runs/first": str(tmp_path / "run"),
        "runs/first/best.pt": str(tmp_path / "run" / "best.pt"),
        "model.onnx": str(tmp_path / "model.onnx"),
    }
    names = []
    for command in (*commands("sayso-train"), *commands("sayso-export")):
        names.append(command[0])
        run(command, changes)
    for command in commands("sayso-evaluate"):
        output = ["--output", str(tmp_path / "report"), "--cache", str(tmp_path / "cache.sqlite")]
        assert "EER" in run([*command, *output], changes)
    assert len(names) == 3
    with (
        LocalServer(
            store=f"sqlite:///{tmp_path / 'sayso.db'}",
            model=tmp_path / "model.onnx",
            enroll_coherence_llr=-10,  # a model of a few steps is no judge of one voice or two
            enroll_parts_llr=-10,
        ) as server,
        server.client() as sayso,
    ):
        assert sayso.enroll("slt", ROOT / "demo/audio/slt/enroll-1.flac").stored
        assert sayso.verify("slt", ROOT / "demo/audio/slt/verify-1.flac").llr is not None


def _small_manifest(folder: Path) -> Path:
    """Ten clips each of twelve speakers of each split of one corpus, by absolute paths."""
    chosen: dict[tuple[str, str], list[dict[str, str]]] = {}
    with (DATA / "manifest.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            if row["corpus"] == "speechocean762":
                chosen.setdefault((row["split"], row["speaker"]), []).append(row)
    rows = []
    for split in ("train", "dev"):
        speakers = [clips for key, clips in sorted(chosen.items()) if key[0] == split][:12]
        rows += [
            {**row, "path": str(DATA / row["path"])} for clips in speakers for row in clips[:10]
        ]
    manifest = folder / "manifest.csv"
    with manifest.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return manifest
