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


def read_cell(text: str, heading: str, row: str, column: str) -> str:
    """A cell of the first table under a heading; `row` is how its line begins, `column` how the
    head of the column does, the first of several. ValueError unless all three are there, heading
    and row once."""
    _, below = text.split(f"{heading}\n")
    table = [line for line in below.partition("\n#")[0].splitlines() if line.startswith("|")]
    (line,) = [line for line in table if line.startswith(f"| {row} |")]
    place, *_ = (
        place for place, name in enumerate(_split_cells(table[0])) if name.startswith(column)
    )
    return _split_cells(line)[place]


def _split_cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def write_measured(page: Path, section: str) -> None:
    """Replace the one measured table of a page of docs/."""
    write_section(page, "<!-- measured: begin -->\n", "<!-- measured: end -->\n", section)
