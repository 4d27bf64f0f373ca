"""`sayso-evaluate`: how good a model is, on whose voices, and how sure that is."""

from __future__ import annotations

import typer

from evaluation.commands.backends import compare_back_ends
from evaluation.commands.compare import compare_reports
from evaluation.commands.conditions import measure_conditions
from evaluation.commands.evaluate import evaluate
from evaluation.commands.merge import merge_caches
from evaluation.commands.promises import check_promises
from evaluation.commands.scores import evaluate_scores

app = typer.Typer(
    name="sayso-evaluate", no_args_is_help=True, add_completion=False, rich_markup_mode=None
)
app.callback(invoke_without_command=True)(evaluate)
app.command("conditions")(measure_conditions)
app.command("promises")(check_promises)
app.command("backends")(compare_back_ends)
app.command("scores")(evaluate_scores)
app.command("compare")(compare_reports)
app.command("merge")(merge_caches)

if __name__ == "__main__":
    app()
