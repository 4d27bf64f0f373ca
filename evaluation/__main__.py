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
from evaluation.commands.spoofing import measure_spoofing
from evaluation.commands.terminal import add_command, join_lines, one_line_errors
from evaluation.commands.tune import tune

app = typer.Typer(name="sayso-evaluate", no_args_is_help=True, pretty_exceptions_enable=False)
app.callback(invoke_without_command=True, help=join_lines(evaluate))(one_line_errors()(evaluate))
for name, command in (
    ("conditions", measure_conditions),
    ("promises", check_promises),
    ("backends", compare_back_ends),
    ("scores", evaluate_scores),
    ("spoofing", measure_spoofing),
    ("compare", compare_reports),
    ("merge", merge_caches),
    ("tune", tune),
):
    add_command(app, one_line_errors()(command), name)

if __name__ == "__main__":
    app()
