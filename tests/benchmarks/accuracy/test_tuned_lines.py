"""The table of what tuning gives."""

from benchmarks.accuracy.tuned_lines import render_table
from benchmarks.figures import figure


def test_a_row_for_each_model_and_line() -> None:
    values = {"eer_before": 8.37, "eer_after": 6.83, "eer_centred": 7.59, "fnmr_after": 30.2}
    found = [
        figure(f"tune_sayso_made_mobile_{name}", [value], "%", None, "")
        for name, value in values.items()
    ]
    *_, row = render_table(found).splitlines()
    assert row == "| sayso made mobile | 8.4 | 6.8 | 7.6 | – | – | – | 30.2 |"
