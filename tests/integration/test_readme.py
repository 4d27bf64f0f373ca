"""README and docs/start do what they say: programs as they stand, commands on small data."""

import re
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from demo.make_corpus import make_corpus
from tests.support.local_server import LocalServer
from tests.support.sayso_server import ROOT
from training.data import manifest

README = ROOT / "README.md"
QUICKSTART = ROOT / "docs" / "start" / "quickstart.md"
LEARN = [ROOT / "docs" / "learn" / f"{name}.md" for name in ("training", "evaluating", "tuning")]
BIN = Path(sys.executable).parent
TINY_RECIPE = """
sampling = { speakers = 8, crop_s = [1.0], held_out_speakers = 0.3 }
encoder = { name = "ecapa", width = 32, groups = 4, stride = 2, embedding_dim = 32 }
losses = [{ name = "info_nce" }]
schedule = { steps = 4, warmup_steps = 1, validate_every = 4 }
"""
ELSEWHERE = {
    "make demo": "tests/demo/test_demo.py, and CI",
    "make demo MODEL=sample.onnx": "test_the_learning_commands_make_a_model, by the same server",
    "make dev": "CI: these tests run in what it installs",
    "make sample-corpus": "tests/demo/test_make_corpus.py",
    "pip install ./client": "tests/integration/test_client_alone.py",
    ".venv/bin/sayso serve --store sqlite:///sayso.db": "the fixture sqlite_server",
    ".venv/bin/sayso serve --store sqlite:///quickstart.db": "the fixture sqlite_server",
    "SAYSO_MODEL=tuned/sayso.onnx SAYSO_TARGET_FALSE_MATCH_RATE=0.005 sayso serve": (
        "tests/integration/test_request_policy.py, by the same setting"
    ),
    "SAYSO_MODEL=tuned/sayso.onnx sayso serve": "tests/integration/test_tuned_model.py",
    "sayso models verify tuned/sayso.onnx": "tests/integration/test_startup.py",
    "pip install 'sayso[evaluation]'": "CI: `make dev` installs the extra",
    "sayso tune models/sayso.onnx calls.csv": "tests/integration/test_tuned_model.py",
    ".venv/bin/sayso-train manifest SpeechCommands --layout speech_commands --output corpus.csv": (
        "tests/training/data/readers"
    ),
    ".venv/bin/python stream.py": "test_programs_print_what_the_page_says",
}
"""Commands of the pages that these tests do not run as they stand, and what does."""

pages = pytest.mark.parametrize("page", [README, QUICKSTART], ids=lambda page: page.stem)
every_page = pytest.mark.parametrize(
    "page", [README, QUICKSTART, *LEARN], ids=lambda page: page.stem
)


def find_blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


def find_commands(page: Path) -> list[str]:
    """The page's shell commands, without comments."""
    lines = [line for block in find_blocks(page, "sh") for line in block.splitlines()]
    return [command for line in lines if (command := line.partition("  #")[0].strip())]


def find_commands_of(page: Path, tool: str) -> list[str]:
    """The page's commands that run a tool of this project, but those that run elsewhere."""
    here = [command for command in find_commands(page) if command not in ELSEWHERE]
    return [command for command in here if command.split()[0] == f".venv/bin/{tool}"]


def run(command: str, changes: Mapping[str, str], *, status: int = 0) -> str:
    """Run a page's command with its paths replaced by those of `changes`."""
    program, *arguments = shlex.split(command)
    done = subprocess.run(
        [BIN / Path(program).name, *(changes.get(word, word) for word in arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == status, (command, done.stdout, done.stderr)
    return done.stdout


@every_page
def test_every_command_is_run_by_a_test(page: Path) -> None:
    tools = ("sayso", "sayso-train", "sayso-export", "sayso-evaluate")
    here = {command for tool in tools for command in find_commands_of(page, tool)}
    assert set(find_commands(page)) <= here | ELSEWHERE.keys()


@pages
def test_programs_print_what_the_page_says(page: Path, sqlite_server: LocalServer) -> None:
    with sqlite_server.client() as sayso:
        sayso.enroll("slt", ROOT / "demo/audio/slt/enroll-1.flac")
    (program,) = find_blocks(page, "python")
    printed = find_blocks(page, "text")
    done = subprocess.run(
        [sys.executable, "-c", program.replace("127.0.0.1:50051", sqlite_server.address)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout in printed


def test_the_program_of_the_readme_is_short() -> None:
    (program,) = find_blocks(README, "python")
    assert len([line for line in program.splitlines() if line]) <= 7
    assert len(README.read_text().splitlines()) < 130


def test_the_commands_of_the_quickstart_say_what_the_page_says(
    sqlite_server: LocalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SAYSO_SERVER", sqlite_server.address)
    enroll, verify, speakers, impostor = find_commands_of(QUICKSTART, "sayso")
    assert "enrolled; 8.8 s of net speech in all" in run(enroll, {})
    accepted = run(verify, {})
    assert "ACCEPTED" in accepted
    assert "10.9" in accepted
    assert "ENROLLED" in run(speakers, {})
    rejected = run(impostor, {}, status=1)
    assert "REJECTED" in rejected
    assert "-6.8" in rejected


def test_the_lines_of_the_demo_are_what_it_prints() -> None:
    demo, _ = find_blocks(README, "text")
    done = subprocess.run(
        [sys.executable, "-m", "service", "demo"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    printed = {" ".join(line.split()[:5]) for line in done.stdout.splitlines()}
    trials = [line for line in demo.splitlines() if "verify-" in line]
    assert trials
    assert {" ".join(line.split()[:5]) for line in trials} <= printed
    assert demo.splitlines()[-1] in done.stdout


def make_small_corpus(folder: Path) -> Path:
    """The sample corpus with three clips a speaker, since each is embedded a dozen times."""
    path = make_corpus(folder)
    chosen: dict[str, list[manifest.Row]] = {}
    for row in manifest.read(path):
        chosen.setdefault(row.speaker, []).append(row)
    manifest.write(path, [row for rows in chosen.values() for row in rows[:3]])
    return path


def test_the_learning_commands_make_a_model(tmp_path: Path) -> None:
    recipe = tmp_path / "tiny.toml"
    recipe.write_text(TINY_RECIPE)
    changes = {
        "sample": str(recipe),
        "build/sample/manifest.csv": str(make_small_corpus(tmp_path / "sample")),
        "runs/sample": str(tmp_path / "run"),
        "runs/sample/best.pt": str(tmp_path / "run" / "best.pt"),
        "sample.onnx": str(tmp_path / "model.onnx"),
        "report": str(tmp_path / "report"),
        "report-sample": str(tmp_path / "report-sample"),
        "report/evaluation.json": str(tmp_path / "report" / "evaluation.json"),
        "report-sample/evaluation.json": str(tmp_path / "report-sample" / "evaluation.json"),
    }
    training, evaluating, tuning = LEARN
    inspect, train = find_commands_of(training, "sayso-train")
    (export,) = find_commands_of(training, "sayso-export")
    (calibrate,) = find_commands_of(tuning, "sayso-export")
    shipped, own, compare = find_commands_of(evaluating, "sayso-evaluate")
    assert find_commands_of(README, "sayso-train") == [train]
    assert find_commands_of(README, "sayso-export") == [export, calibrate]
    (evaluate,) = find_commands_of(README, "sayso-evaluate")
    assert own.startswith(evaluate)
    assert "40" in run(inspect, changes)
    for command in (train, export, calibrate):
        run(command, changes)
    cache = f"--cache {tmp_path / 'cache.sqlite'} --replicates 10"
    for command in (shipped, own):
        assert "EER" in run(f"{command} {cache}", changes)
    run(f"{compare} --output {tmp_path / 'comparison'} --replicates 10", changes)
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
