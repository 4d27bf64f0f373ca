from __future__ import annotations

import numpy as np
from matplotlib.colors import to_rgba

from training.runs import pictures


def test_curves_show_every_loss_and_mark_the_best_validation() -> None:
    told = {
        "loss/total": {20: 3.0, 40: 2.0},
        "loss/triplet": {20: 1.0, 40: 0.5},
        "eer/recorded": {20: 0.4, 40: 0.3},
        "eer/crossed": {20: 0.5, 40: 0.45},
        "learning_rate": {20: 1e-3, 40: 5e-4},
        "clips_per_s": {20: 9.0, 40: 9.0},
    }
    losses, errors, rates = pictures.draw_curves(told).axes
    assert [line.get_label() for line in losses.lines] == ["total", "triplet"]
    recorded, crossed, best = errors.lines
    np.testing.assert_allclose(np.asarray(recorded.get_xydata()), [[20, 40.0], [40, 30.0]])
    np.testing.assert_allclose(np.asarray(crossed.get_xydata()), [[20, 50.0], [40, 45.0]])
    assert np.asarray(best.get_xdata()).tolist() == [40, 40]
    assert best.get_label() == "best, step 40: 30.00%, 45.00%"
    np.testing.assert_allclose(np.asarray(rates.lines[0].get_ydata()), [1e-3, 5e-4])


def test_curves_of_nothing_are_empty() -> None:
    assert all(not axes.lines for axes in pictures.draw_curves({}).axes)


def test_speakers_have_a_colour_and_corpora_a_marker() -> None:
    names = ["a/1", "b/2", "a/1", "a/3"]
    points = np.arange(8.0).reshape(4, 2)
    (axes,) = pictures.draw_speakers(points, names, ["a", "b", "a", "a"]).axes
    of_a, legend_a, of_b, legend_b = axes.collections
    np.testing.assert_allclose(np.asarray(of_a.get_offsets()), points[[0, 2, 3]])
    np.testing.assert_allclose(np.asarray(of_b.get_offsets()), points[[1]])
    first, again, other = of_a.get_facecolors()  # type: ignore[attr-defined]
    assert tuple(first) == tuple(again) != tuple(other)
    assert (legend_a.get_label(), legend_b.get_label()) == ("a", "b")
    assert to_rgba("0.4") == tuple(legend_a.get_facecolors()[0])  # type: ignore[attr-defined]
    circles, triangles = (np.asarray(shown.get_paths()[0].vertices).shape for shown in (of_a, of_b))
    assert circles != triangles
