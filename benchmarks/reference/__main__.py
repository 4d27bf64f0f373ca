"""Writes every page that comes from the code: `python -m benchmarks.reference`."""

from pathlib import Path

from benchmarks.reference import api, settings

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGES = {
    DOCS / "settings.md": settings.render_page,
    DOCS / "integrate" / "api.md": api.render_page,
}
"""What renders each page, by its path."""


def main() -> None:
    for path, render in PAGES.items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(render(), encoding="utf-8")
        print(path.relative_to(DOCS.parent))


if __name__ == "__main__":
    main()
