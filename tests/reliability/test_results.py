"""The page says what the long runs saw."""

import pytest

from tests.reliability import results


def test_the_page_is_made_of_the_results(long: bool) -> None:
    if long:
        pytest.skip("the page is written after a long run")
    told = "run `python -m tests.reliability.results`"
    assert results.PAGE.read_text(encoding="utf-8") == results.page(), told
