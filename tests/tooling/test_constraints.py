"""constraints.txt pins all that is installed, and the service's part of it holds no torch."""

import tomllib
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LINES = (ROOT / "constraints.txt").read_text().splitlines()
PINS = {
    canonicalize_name(pin.name): pin
    for pin in (Requirement(line) for line in LINES if line and not line.startswith("#"))
}


def needed(requirements: Iterable[str], extra: str = "") -> list[Requirement]:
    """Those that apply on this machine."""
    parsed = [Requirement(text) for text in requirements]
    return [one for one in parsed if not one.marker or one.marker.evaluate({"extra": extra})]


def closure(requirements: Iterable[str]) -> set[str]:
    """The names of requirements and of all they require in turn, as installed here."""
    found: set[str] = set()
    waiting = needed(requirements)
    while waiting:
        one = waiting.pop()
        name = canonicalize_name(one.name)
        if name not in found:
            found.add(name)
            requires = distribution(one.name).requires or []
            waiting += needed(requires)
            waiting += [more for extra in one.extras for more in needed(requires, extra)]
    return found


BASE = closure(PROJECT["dependencies"])
EXTRAS = PROJECT["optional-dependencies"]


def test_every_line_is_an_exact_pin() -> None:
    assert all(str(pin.specifier).startswith("==") for pin in PINS.values())
    assert not any("://" in line for line in LINES)


def test_the_service_needs_nothing_unpinned() -> None:
    assert BASE - PINS.keys() == set()


def test_the_service_needs_no_training_framework() -> None:
    assert BASE & {"torch", "torchaudio", "librosa", "silero-vad", "nvidia-cudnn-cu13"} == set()
    assert not any("torch" in name for name in BASE)


@pytest.mark.parametrize("extra", EXTRAS)
def test_an_extra_names_nothing_unpinned(extra: str) -> None:
    named = {canonicalize_name(one.name) for one in needed(EXTRAS[extra])}
    assert named - PINS.keys() <= {"sayso"}


def test_the_pins_satisfy_the_project() -> None:
    asked = [*PROJECT["dependencies"], *(text for extra in EXTRAS.values() for text in extra)]
    for one in needed(asked):
        pin = PINS.get(canonicalize_name(one.name))
        if pin:
            (exact,) = pin.specifier
            assert exact.version in one.specifier, f"{pin} is not {one}"


def test_what_is_installed_is_what_is_pinned() -> None:
    for name, pin in PINS.items():
        try:
            installed = distribution(name).version
        except PackageNotFoundError:
            continue
        assert installed in pin.specifier, f"{name} {installed} is installed, not {pin}"
