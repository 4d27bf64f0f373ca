"""Only what stands between two marks of a page changes."""

import pytest

from benchmarks import pages


def test_only_what_stands_between_the_marks_changes() -> None:
    page = "before\n<a>old\n<b>after\n"
    assert pages.read_section(page, "<a>", "<b>") == "old\n"
    assert pages.replace_section(page, "<a>", "<b>", "new\n") == "before\n<a>new\n<b>after\n"


@pytest.mark.parametrize("page", ["no marks\n", "<a>never closed", "<a>twice<b><a>again<b>"])
def test_a_page_without_its_two_marks_is_refused(page: str) -> None:
    with pytest.raises(ValueError, match="unpack"):
        pages.replace_section(page, "<a>", "<b>", "new\n")


TABLES = """# Page

### First

| system | EER, all | EER, one |
| --- | --- | --- |
| ours | 1.0% (0.1 to 2.0) | 2.0% |

### Second

| system | EER, all |
| --- | --- |
| ours | 3.0% |
"""


def test_a_cell_is_read_by_heading_row_and_the_first_column_of_its_name() -> None:
    assert pages.read_cell(TABLES, "### First", "ours", "EER") == "1.0% (0.1 to 2.0)"
    assert pages.read_cell(TABLES, "### Second", "ours", "EER, all") == "3.0%"


@pytest.mark.parametrize(
    ("heading", "row", "column"),
    [("### Third", "ours", "EER"), ("### First", "theirs", "EER"), ("### First", "ours", "DCF")],
)
def test_a_cell_that_is_not_there_is_an_error(heading: str, row: str, column: str) -> None:
    with pytest.raises(ValueError, match="unpack"):
        pages.read_cell(TABLES, heading, row, column)
