from xml.etree import ElementTree

from PIL import Image

from dim.evaluation.curves import convergence


def test_a_curve_for_each_history_and_the_ceiling(tmp_path):
    history = [{"epoch": 1, "estimate": 0.5, "train": 0.7}, {"epoch": 2, "estimate": 0.9, "train": 1.4}]
    curves = {"held-out": (history, "estimate"), "training": (history, "train")}
    path = convergence(tmp_path / "mine-y", "MINE", curves, 6.9)
    assert Image.open(path).size[0] > 400
    drawing = ElementTree.parse(path.with_suffix(".svg")).getroot()
    groups = [element.get("id", "") for element in drawing.iter() if element.get("id", "").startswith("line2d")]
    assert len(groups) > 2
