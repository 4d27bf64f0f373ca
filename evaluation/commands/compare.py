"""`sayso-evaluate compare`: two reports, and whether one system is better."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from evaluation.commands import options
from evaluation.commands.terminal import out, quote_command

if TYPE_CHECKING:
    from evaluation.report.document import Document


def compare_reports(
    first: Annotated[Path, typer.Argument(help="evaluation.json of system A.")],
    second: Annotated[Path, typer.Argument(help="evaluation.json of system B.")],
    output_folder: options.Output = Path("evaluation-comparison"),
    replicates: options.Replicates = 200,
    seed: options.Seed = 0,
) -> None:
    """Overlay two reports and say whether B is better than A on the trials both scored.

    Both folders need their scores.tsv.gz. Writes comparison.html and comparison.json.

    Example: sayso-evaluate compare old/evaluation.json new/evaluation.json
    """
    from evaluation.experiments import external_scores
    from evaluation.report import document, page

    comparison = external_scores.compare(first, second, replicates=max(replicates, 2), seed=seed)
    output_folder.mkdir(parents=True, exist_ok=True)
    made = document.describe_run(quote_command(), datetime.now(UTC))
    document.write(output_folder / "comparison.json", {**made, **comparison})
    written = document.read(output_folder / "comparison.json")
    html = page.render_comparison(written, written["systems"])
    (output_folder / "comparison.html").write_text(html, encoding="utf-8")
    out.print(_difference_table(written))


def _difference_table(comparison: Document) -> Table:
    from evaluation.report.table import draw_table

    table = draw_table(comparison["told"])
    for column in ("figure", "A", "B", "B less A, 95%", "verdict"):
        table.add_column(column)
    for name, row in comparison["differences"].items():
        low, high = row["interval"]["low"], row["interval"]["high"]
        values = (f"{row['first']:.4f}", f"{row['second']:.4f}", f"{low:+.4f} .. {high:+.4f}")
        table.add_row(name, *values, row["verdict"])
    return table
