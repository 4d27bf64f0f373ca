"""What the plots look like."""

from evaluation.report import plots

OKABE_ITO = {
    *("#000000", "#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7"),
}


def test_more_curves_than_colors_differ_all_the_same() -> None:
    curves = {f"corpus {n}": {"fmr": [0.1, 0.2], "fnmr": [0.2, 0.1]} for n in range(12)}
    (axes,) = plots.plot_det(curves, {}).axes
    lines = [line for line in axes.lines if str(line.get_label()).startswith("corpus")]
    looks = {(line.get_color(), line.get_linestyle()) for line in lines}
    assert len(looks) == len(lines) == 12
    assert {color for color, _ in looks} <= OKABE_ITO
    assert {plots.TARGET, plots.NONTARGET} == {"#0072B2", "#D55E00"}
