"""constraints.txt pins everything that is installed, and the service needs no torch."""

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


def select(requirements: Iterable[str], extra: str = "") -> list[Requirement]:
    """The requirements that apply on this machine."""
    parsed = [Requirement(text) for text in requirements]
    return [item for item in parsed if not item.marker or item.marker.evaluate({"extra": extra})]


def is_ours(requirement: Requirement) -> bool:
    return requirement.name in {"sayso", "sayso-client"}


def resolve(requirements: Iterable[str]) -> set[str]:
    """The names of requirements and of all that they require in turn, as installed here."""
    names: set[str] = set()
    queue = select(requirements)
    while queue:
        requirement = queue.pop()
        name = canonicalize_name(requirement.name)
        if name not in names and not is_ours(requirement):
            names.add(name)
            requires = distribution(name).requires or []
            queue += select(requires)
            queue += [more for extra in requirement.extras for more in select(requires, extra)]
    return names


BASE = resolve(PROJECT["dependencies"])
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
    others = [requirement for requirement in select(EXTRAS[extra]) if not is_ours(requirement)]
    assert {canonicalize_name(requirement.name) for requirement in others} <= PINS.keys()


def test_the_pins_satisfy_the_project() -> None:
    texts = [*PROJECT["dependencies"], *(text for extra in EXTRAS.values() for text in extra)]
    for requirement in select(texts):
        pin = PINS.get(canonicalize_name(requirement.name))
        if pin:
            (exact,) = pin.specifier
            assert exact.version in requirement.specifier, f"{pin} is not {requirement}"


def test_what_is_installed_is_what_is_pinned() -> None:
    for name, pin in PINS.items():
        try:
            installed = distribution(name).version
        except PackageNotFoundError:
            continue
        assert installed in pin.specifier, f"{name} {installed} is installed, not {pin}"
