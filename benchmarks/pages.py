"""Pages whose tables are written by the benchmarks, each table between two marks."""

from __future__ import annotations

from pathlib import Path


def read_section(text: str, begin: str, end: str) -> str:
    """Return the text between two marks; ValueError unless each mark is there exactly once."""
    _, rest = text.split(begin)
    section, _ = rest.split(end)
    return section


def replace_section(text: str, begin: str, end: str, section: str) -> str:
    """Put `section` between the marks of `text`; ValueError unless each is there exactly once."""
    return text.replace(begin + read_section(text, begin, end) + end, begin + section + end)


def write_section(page: Path, begin: str, end: str, section: str) -> None:
    """Replace what stands between two marks in the file `page`."""
    text = page.read_text(encoding="utf-8")
    page.write_text(replace_section(text, begin, end, section), encoding="utf-8")


def write_measured(page: Path, section: str) -> None:
    """Replace the one measured table of a page of docs/."""
    write_section(page, "<!-- measured: begin -->\n", "<!-- measured: end -->\n", section)
