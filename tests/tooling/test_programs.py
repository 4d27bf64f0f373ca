"""What the command lines of training, export and evaluation have in common."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

import evaluation.__main__
import exporters.__main__
import training.__main__

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = {
    "sayso-train": training.__main__.app,
    "sayso-export": exporters.__main__.app,
    "sayso-evaluate": evaluation.__main__.app,
}
PACKAGES = {"sayso-train": "training", "sayso-export": "exporters", "sayso-evaluate": "evaluation"}
SLOW = ("torch", "scipy", "matplotlib", "sklearn", "onnx", "onnxruntime", "tensorboard")
EXTRAS = ("torch", "scipy", "jinja2", "onnx", "matplotlib", "librosa", "sklearn", "tensorboard")

programs = pytest.mark.parametrize("program", PROGRAMS)


def list_commands() -> Iterator[tuple[str, str]]:
    for program, app in PROGRAMS.items():
        yield program, ""
        yield from ((program, name) for name in typer.main.get_group(app).commands)


def run(program: str, *arguments: str, environment: dict[str, str] | None = None) -> str:
    ended = CliRunner(env={"COLUMNS": "300", "NO_COLOR": "1"}).invoke(
        PROGRAMS[program], arguments, prog_name=program, env=environment
    )
    assert ended.exit_code == 0, ended.output
    return ended.stdout


def run_without(modules: tuple[str, ...], program: str, *arguments: str) -> tuple[int, str]:
    """Exit status and stderr of a program in an environment that lacks `modules`."""
    script = (
        f"import sys; sys.modules.update(dict.fromkeys({modules!r}));"
        f"from {PACKAGES[program]}.__main__ import app;"
        f"sys.argv[:] = {[program, *arguments]!r}; app()"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return ended.returncode, ended.stderr


@programs
def test_it_says_its_version(program: str) -> None:
    assert run(program, "--version") == f"{program} {version('sayso')}\n"


@pytest.mark.parametrize(("program", "command"), list(list_commands()))
def test_the_help_has_an_example_that_parses(program: str, command: str) -> None:
    shown = run(program, *filter(None, [command]), "--help")
    (example,) = re.findall(rf"Example: {program} (.*)", shown)
    words = shlex.split(example.strip("│ "))
    group = typer.main.get_group(PROGRAMS[program])
    with group.make_context(program, list(words)) as context:
        if command:
            assert words[0] == command
            group.commands[command].make_context(command, words[1:], parent=context)


@programs
def test_help_loads_nothing_that_takes_long(program: str) -> None:
    script = (
        f"import sys, {PACKAGES[program]}.__main__ as program\n"
        f"program.app(['--help'], standalone_mode=False)\n"
        f"sys.exit(', '.join(sys.modules.keys() & set({SLOW!r})))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ended.stderr.strip() == ""


@programs
def test_a_shell_completes_its_commands(program: str) -> None:
    variable = f"_{program.replace('-', '_').upper()}_COMPLETE"
    completing = {variable: "complete_bash", "COMP_WORDS": f"{program} ", "COMP_CWORD": "1"}
    offered = run(program, environment=completing).split()
    assert set(offered) == set(typer.main.get_group(PROGRAMS[program]).commands)
    script = run(program, environment={variable: "source_bash"})
    assert f"{variable}=complete_bash" in script


@pytest.mark.parametrize(
    ("program", "arguments", "extra"),
    [
        ("sayso-train", ["describe", "small"], "train"),
        ("sayso-export", ["adopt", "resemblyzer", "--output", "m.onnx"], "train"),
        ("sayso-export", ["calibrate", "m.onnx", "--manifest", "m", "--in-place"], "train"),
        ("sayso-evaluate", ["--model", "m.onnx", "--manifest", "m.csv"], "evaluation"),
        ("sayso-evaluate", ["scores", "s.txt"], "evaluation"),
    ],
)
def test_a_base_installation_is_told_what_to_install(
    program: str, arguments: list[str], extra: str
) -> None:
    status, said = run_without(EXTRAS, program, *arguments)
    assert status == 2
    *_, line = said.splitlines()
    assert re.fullmatch(rf"error: \w+ is not installed: pip install 'sayso\[{extra}\]'", line)
    assert "Traceback" not in said


@programs
def test_a_base_installation_has_the_help(program: str) -> None:
    assert run_without(EXTRAS, program, "--help") == (0, "")
