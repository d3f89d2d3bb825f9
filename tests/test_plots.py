from PIL import Image

from dim import plots


def test_a_figure_is_saved_as_png_and_svg(tmp_path):
    figure, axes = plots.figure(1, 2)
    for curve in axes:
        curve.plot([0, 1], [1, 0])
    path = plots.save(figure, tmp_path / "curves.png")
    width, height = Image.open(path).size
    assert (width, height) == (1248, 468)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["curves.png", "curves.svg"]


def test_convergence_has_a_curve_for_each_history_and_the_ceiling():
    history = [{"epoch": 1, "estimate": 0.5, "train": 0.7}, {"epoch": 2, "estimate": 0.9, "train": 1.4}]
    curves = {"held-out": (history, "estimate"), "training": (history, "train")}
    (axes,) = plots.convergence("MINE", curves, 6.9, "bits").axes
    drawn = {line.get_label(): list(line.get_ydata()) for line in axes.lines}
    assert drawn == {"held-out": [0.5, 0.9], "training": [0.7, 1.4], "ceiling 6.90": [6.9, 6.9]}
    assert axes.get_ylabel() == "bits"
