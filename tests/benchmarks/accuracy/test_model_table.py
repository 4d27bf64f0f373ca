"""The pages show the table of models/figures.json, and nothing else."""

import json
from pathlib import Path

import pytest

from benchmarks import pages
from benchmarks.accuracy import model_table


@pytest.mark.parametrize("page", model_table.PAGES, ids=lambda page: page.name)
def test_the_pages_show_what_was_measured(page: Path) -> None:
    document = json.loads(model_table.FIGURES.read_text())
    shown = pages.read_section(page.read_text(), model_table.BEGIN, model_table.END)
    assert shown == model_table.format_table(document)
    assert len(document["models"]) == 3
    for model in document["models"]:
        for rate in model["eer"].values():
            low, high = rate["interval"]
            assert low <= rate["eer"] <= high
