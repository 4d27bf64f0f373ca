"""The committed pages are what the code says."""

from pathlib import Path

import pytest

from benchmarks.reference import api, settings
from benchmarks.reference.__main__ import DOCS, PAGES
from service.access import ROLES
from service.settings import OF_CLIENTS, list_settings, list_variables


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(DOCS)))
def test_a_committed_page_is_what_the_code_says(path: Path) -> None:
    assert path.read_text(encoding="utf-8") == PAGES[path](), "run `make reference`"


def test_every_variable_has_one_row() -> None:
    rows = [line for line in settings.render_page().splitlines() if line.startswith("| `SAYSO_")]
    names = [row.split("`")[1] for row in rows]
    assert len(names) == len(set(names))
    assert list_variables() | OF_CLIENTS <= set(names)


def test_headings_stand_before_settings_that_exist() -> None:
    assert settings.HEADINGS.keys() <= list_settings().keys()
    assert settings.CLIENTS.keys() == OF_CLIENTS


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("SAYSO_DEVICE", "`auto` | where inference runs (`auto`, `cpu`, `cuda`, `tensorrt`) |"),
        ("SAYSO_MASTER_KEYS", "unset | the master keys themselves |"),
        ("SAYSO_MODEL", "the default model | the contract model file (.onnx) |"),
        ("SAYSO_TLS_KEY", "unset | PEM file of its key, without a passphrase |"),
    ],
)
def test_a_row_says_default_meaning_and_limits(name: str, row: str) -> None:
    assert f"| `{name}` | {row}" in settings.render_page()


def test_a_range_is_said_in_words() -> None:
    (row,) = [
        line for line in settings.render_page().splitlines() if "`SAYSO_SEQUENTIAL_FALSE_M" in line
    ]
    assert row.endswith("(above 0, below 0.5) |")


def test_every_method_message_and_enumeration_is_in_the_api_page() -> None:
    page = api.render_page()
    names = {
        one.name
        for file in api.read_protos().values()
        for kind in ("service", "message_type", "enum_type")
        for one in getattr(file.descriptor, kind)
    }
    assert {"VerificationService", "Decision", "Outcome"} <= names
    headings = [line.lstrip("# ") for line in page.splitlines() if line.startswith("##")]
    assert sorted(headings) == sorted([*names, "What they share"])
    for name in ROLES:
        assert f"| `{name.rpartition('/')[2]}` |" in page


@pytest.mark.parametrize(
    "row",
    [
        "| `Embed` | `analyze` | [EmbedRequest](#embedrequest) → [EmbedResponse](#embedresponse). "
        "Turns a recording into an embedding. Needs the role `analyze`. "
        "`POST /v1/embeddings:embed` |",
        "| `llr` | optional double | Natural log. Absent for a credential without the role "
        "`analyze`. |",
        "| `metadata` | map of string to string | Merged into the speaker's metadata. |",
        "| `OUTCOME_OPTED_OUT` | The speaker opted out of voice verification. |",
    ],
)
def test_a_row_of_the_api_page_says_type_meaning_and_role(row: str) -> None:
    assert row in api.render_page().splitlines()
