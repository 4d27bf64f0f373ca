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
