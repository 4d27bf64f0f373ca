"""What every command of `sayso` has: an example that parses, `--json`, completion, errors of one
line."""

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import typer.main
from typer.testing import CliRunner, Result

from service.commands import health
from service.commands.application import COMMANDS, app

ROOT = Path(__file__).resolve().parents[3]
SLOW = ("onnxruntime", "torch", "scipy", "soundfile")
WIDE = {"COLUMNS": "300", "NO_COLOR": "1"}


def list_commands() -> Iterator[tuple[str, ...]]:
    """The words of every command that does something."""
    group: Any = typer.main.get_group(app)
    for name in COMMANDS:
        yield from list_leaves(group.get_command(typer.Context(group), name), name)


def list_leaves(command: Any, *words: str) -> Iterator[tuple[str, ...]]:
    """The words of a command, if it does something, and of those below it."""
    below = getattr(command, "commands", {})
    if not below or command.invoke_without_command:
        yield words
    for name, each in below.items():
        yield from list_leaves(each, *words, name)


LEAVES = list(list_commands())
commands = pytest.mark.parametrize("words", LEAVES, ids=" ".join)


def run(*words: str, environment: dict[str, str] | None = None) -> Result:
    return CliRunner(env=WIDE).invoke(app, words, prog_name="sayso", env=environment)


def parse(words: list[str]) -> tuple[str, ...]:
    """The words of the command that a command line names, whose arguments all parse."""
    command: Any = typer.main.get_group(app)
    context = command.make_context("sayso", list(words))
    named = []
    while hasattr(command, "resolve_command"):
        left = [*context._protected_args, *context.args]
        if not left and command.invoke_without_command:
            break
        name, command, rest = command.resolve_command(context, left)
        named.append(name)
        context = command.make_context(name, rest, parent=context)
    return tuple(named)


def test_it_says_its_version() -> None:
    assert run("--version").stdout == f"sayso {version('sayso')}\n"


@pytest.mark.parametrize("words", [(), *LEAVES], ids=lambda words: " ".join(words) or "sayso")
def test_the_help_has_an_example_that_parses(
    words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = run(*words, "--help").stdout
    (example,) = re.findall(r"Example: sayso (.*)", shown)
    asked = shlex.split(example.strip("│ "))
    monkeypatch.chdir(tmp_path)
    for word in ("audit/", *asked):  # what it names is there
        if re.fullmatch(r"[\w/-]+[./]\w*", word):
            path = tmp_path / word
            (path if word.endswith("/") else path.parent).mkdir(exist_ok=True)
            path.is_dir() or path.touch()
    named = parse(asked)
    assert not words or named == words


@commands
def test_it_prints_json_if_it_is_asked_to(words: tuple[str, ...]) -> None:
    assert "--json" in run(*words, "--help").stdout


def test_the_quick_health_has_the_options_of_the_listed_one(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        health.main(["--help"])
    quick, listed = capsys.readouterr().out, run("health", "--help").stdout
    options = [set(re.findall(r"--[a-z]+", shown)) for shown in (quick, listed)]
    assert options[0] == options[1] == {"--help", "--json", "--server"}
    assert "Example: sayso health" in quick


def test_a_shell_completes_commands_and_options() -> None:
    def complete(line: str) -> list[str]:
        asked = {"_SAYSO_COMPLETE": "complete_bash", "COMP_WORDS": line}
        return run(environment={**asked, "COMP_CWORD": str(line.count(" "))}).stdout.split()

    assert complete("sayso ") == list(COMMANDS)
    assert "withdraw-consent" in complete("sayso speakers ")
    assert complete("sayso verify --js") == ["--json"]
    script = run(environment={"_SAYSO_COMPLETE": "source_bash"}).stdout
    assert "_SAYSO_COMPLETE=complete_bash" in script


def test_brackets_in_a_help_are_shown() -> None:
    assert "[the server's]" in run("verify", "--help").stdout


def run_process(*lines: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", "\n".join(lines)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def test_help_loads_nothing_that_takes_long() -> None:
    ended = run_process(
        "import sys",
        "from service.commands.application import app",
        "app(['--help'], standalone_mode=False)",
        f"sys.exit(', '.join(sys.modules.keys() & set({SLOW!r})))",
    )
    assert ended.stderr.strip() == ""


def test_a_missing_extra_is_one_line() -> None:
    ended = run_process(
        "import sys; sys.modules['hvac'] = None",
        "from service.commands.terminal import one_line_errors",
        "with one_line_errors(): import hvac",
    )
    assert (ended.stdout, "Traceback (most" in ended.stdout) == ("", False)
    assert "error: hvac is not installed: pip install 'sayso[vault]'\n" in ended.stderr


@pytest.mark.parametrize("words", [("enroll", "alice"), ("verify", "alice"), ("identify", "all")])
def test_a_recording_that_is_missing_or_a_folder_is_named(
    words: tuple[str, ...], tmp_path: Path
) -> None:
    for path in (tmp_path, tmp_path / "missing.wav"):
        ended = run(*words, str(path))
        assert ended.exit_code == 2
        assert path.name in ended.stderr
