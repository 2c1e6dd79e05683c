"""Visualizers without a figure draw what those with a figure draw."""

import numpy as np
from mmengine.visualization import Visualizer

from mmseg_cil.utils.later_figure import figures_later


def drawn(visualizer):
    visualizer.set_image(np.full((20, 30, 3), 128, np.uint8))
    visualizer.draw_bboxes(np.array([[2, 3, 20, 15]]), edge_colors='r')
    visualizer.draw_texts('a', np.array([5, 5]))
    return visualizer.get_image()


def test_the_picture_is_the_same():
    usual = Visualizer(fig_save_cfg=dict(frameon=False, dpi=70))
    with figures_later():
        later = Visualizer(fig_save_cfg=dict(frameon=False, dpi=70))
    assert float(later.dpi) == usual.dpi == 70
    np.testing.assert_array_equal(drawn(later), drawn(usual))


def test_a_figure_is_made_at_the_first_drawing(monkeypatch):
    made, make = [], Visualizer._initialize_fig
    monkeypatch.setattr(
        Visualizer, '_initialize_fig', lambda self, config: made.append(1) or make(self, config)
    )
    with figures_later():
        later = Visualizer()
    later.add_scalar('loss', 1.0)
    assert not made
    drawn(later)
    drawn(later)
    assert made == [1]
    Visualizer()
    assert made == [1, 1]
