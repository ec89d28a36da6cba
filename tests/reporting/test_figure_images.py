"""A figure of a report becomes an image that shows what the figure says."""

import math
import sys
import warnings

import numpy as np
import pytest

from qa_accel.reporting import figure_images
from qa_accel.reporting.blocks import Curve, Figure

matplotlib = pytest.importorskip("matplotlib", reason="needs the extra 'tracking'")


def axes_of(*curves: Curve, **more):
    drawing = figure_images.draw(Figure("f", "Title", "x", "y", curves, **more))
    assert figure_images.pixels(drawing).shape == (figure_images.HEIGHT, figure_images.WIDTH, 3)
    return drawing.axes[0]


def legend_of(axes) -> list[str]:
    return [entry.get_text() for entry in axes.get_legend().get_texts()]


def test_a_line_is_drawn_where_its_points_are():
    """Breaks if axes, colours or the canvas are mixed up: a level line at half height is a row of its colour, C0."""
    drawing = figure_images.draw(Figure("f", "", "", "", [Curve("a", [0, 1], [0.5, 0.5])], y_range=(0, 1)))
    image = figure_images.pixels(drawing)
    assert image.dtype == np.uint8
    blue = (np.abs(image.astype(int) - [0x1F, 0x77, 0xB4]) < 40).all(axis=2)
    rows, columns = np.nonzero(blue)
    box = drawing.axes[0].get_window_extent()
    assert abs(rows.mean() - (figure_images.HEIGHT - (box.y0 + box.y1) / 2)) < 2
    assert np.ptp(rows) < 5 and np.ptp(columns) > 600


def test_what_is_missing_is_a_gap():
    """Breaks if None, infinity or nan is drawn as 0 or ends the drawing."""
    axes = axes_of(Curve("a", [1, 2, 3, 4], [1.0, None, math.inf, 4.0]), Curve("b", [1], [math.nan], "bars"))
    assert [not math.isnan(value) for value in axes.lines[0].get_ydata()] == [True, False, False, True]


def test_a_line_of_one_point_can_be_seen():
    """Breaks if a run with a single evaluation has an empty plot: a line through one point has no length."""
    seen = figure_images.pixels(figure_images.draw(Figure("f", "", "", "", [Curve("a", [6], [33.3])])))
    nothing = figure_images.pixels(figure_images.draw(Figure("f", "", "", "", [Curve("a", [6], [None])])))
    blue = [(np.abs(image.astype(int) - [0x1F, 0x77, 0xB4]) < 40).all(axis=2).sum() for image in (seen, nothing)]
    assert blue[0] > 10 and blue[1] == 0


def test_bars_of_two_runs_stand_beside_each_other():
    """Two runs and places 1 apart: bars are 0.4 wide, centred 0.2 left and right of their place. Breaks if they overlap."""
    axes = axes_of(Curve("A", [1, 2], [3, 4], "bars"), Curve("B", [1, 2], [5, 6], "bars"))
    places = [(round(bar.get_x(), 6), round(bar.get_width(), 6), bar.get_height()) for bar in axes.patches]
    assert places == [(0.6, 0.4, 3), (1.6, 0.4, 4), (1.0, 0.4, 5), (2.0, 0.4, 6)]


def test_categories_of_several_curves_share_their_places():
    """Breaks if the second curve counts its categories from 0 again."""
    axes = axes_of(Curve("A", ["who", "when"], [1, 2], "dots"), Curve("B", ["when", "why"], [3, 4], "dots"))
    assert [label.get_text() for label in axes.get_xticklabels()] == ["who", "when", "why"]
    assert axes.lines[1].get_xdata().tolist() == [1, 2]


def test_of_many_categories_some_are_named():
    """Breaks if 200 names are written over each other; or bars are left out with the names."""
    axes = axes_of(Curve("A", [f"title {n}" for n in range(200)], list(range(200)), "bars"))
    assert len(axes.patches) == 200 and 20 <= len(axes.get_xticks()) <= 30


def test_a_band_has_its_area_and_its_line():
    axes = axes_of(Curve("f1", [0, 1], [2, 3], "band", [1, 2], [3, 4]), marks={"chosen": 0.5})
    assert axes.collections[0].get_datalim(axes.transData).bounds == (0, 1, 1, 3)
    assert legend_of(axes) == ["f1", "chosen"]
    assert axes.lines[1].get_xdata() == [0.5, 0.5]


def test_text_from_data_is_no_formula_and_no_warning():
    """Breaks if a name with two dollars is set as mathematics, which fails, or if letters that the font lacks end a strict run."""
    nasty = r"$\frac{$ 中文 \x{}"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        axes = axes_of(Curve(nasty, [nasty, "b"], [1, 2]), marks={nasty + "\n2": 0}, note=nasty * 30)
    assert legend_of(axes)[0] == nasty.replace("$", r"\$") and "\n" not in legend_of(axes)[1]


def test_no_state_of_pyplot_is_touched():
    """Breaks if drawing imports pyplot, which chooses a window system and keeps figures alive."""
    axes_of(Curve("a", [0], [0]))
    assert "matplotlib.pyplot" not in sys.modules or not matplotlib.pyplot.get_fignums()
