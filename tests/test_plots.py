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
