import csv
import json
import math

import pytest
import torch

from dim import cli, plots
from dim.data import digits
from dim.data.dataset import split_validation
from dim.data.sources import load_dataset
from dim.mine.experiments import bottleneck


def run(tmp_path, *options):
    cli.main(["mine", "bottleneck", "--epochs", "1", "--output", str(tmp_path), *options])


def test_files_table_and_plot_then_only_what_is_missing(tmp_path, capsys, monkeypatch):
    run(tmp_path, "--seeds", "1")
    assert "MINE, additive" in capsys.readouterr().out
    cells = json.loads((tmp_path / "bottleneck-digits.json").read_text())["cells"]
    assert [cell["setting"]["variant"] for cell in cells] == list(bottleneck.VARIANTS)
    for cell in cells:
        result = cell["result"]
        assert 0 <= result["test_error"] < 90
        assert result["history"][0]["epoch"] == 0
        assert ("kl" in result) == (cell["setting"]["variant"] in ("vib", "gaussian"))
    rows = list(csv.DictReader((tmp_path / "bottleneck-digits.csv").open()))
    assert {row["published_as_recalled"] for row in rows} == {""}  # the paper has no digits
    assert (tmp_path / "bottleneck-digits.png").read_bytes().startswith(b"\x89PNG")

    trained, train = [], bottleneck.train

    def recorded(variant, *rest):
        trained.append((variant, rest[-1]))
        return train(variant, *rest)

    monkeypatch.setattr(bottleneck, "train", recorded)
    monkeypatch.setattr(bottleneck, "_plot", lambda path, *_: path)
    monkeypatch.setattr(bottleneck, "VARIANTS", ("deterministic", "vib"))
    run(tmp_path, "--seeds", "2")
    assert trained == [("deterministic", 1), ("vib", 1)]
    assert json.loads((tmp_path / "bottleneck-digits.json").read_text())["cells"][:5] == cells


def test_errors_are_of_the_images_that_they_are_named_after(monkeypatch):
    images, asked = bottleneck._Images(digits.load(8), torch.device("cpu")), []

    class Learner:
        def plane(self, x, y):
            assert x is images.held_out[0]
            return {"x_z": 1.0, "z_y": 1.0}

        def error(self, x, y):
            asked.append(x)
            return 7.0 if x is images.test[0] else 5.0

    monkeypatch.setattr(bottleneck, "train", lambda *_: iter([(0.0, Learner())]))
    setting = {"variant": "deterministic", "seed": 0}
    found = images.measure(setting, bottleneck.Settings(epochs=1), lambda *_: None)
    assert (found["test_error"], found["validation_error"]) == (7.0, 5.0)
    assert [x is image for x, image in zip(asked, (images.test[0], images.held_out[0]), strict=True)] == [True, True]


def test_an_outlier_does_not_stretch_the_information_plane():
    def row(variant, seed, *estimates):
        return {"variant": variant, "seed": seed, "history": [{"x_z": v, "z_y": 1.0} for v in estimates]}

    images = bottleneck._Images(digits.load(8), torch.device("cpu"))
    log_n = math.log(len(images.held_out[1]))
    rows = [row(variant, seed, 0.0, 2.0, 3.0) for variant in bottleneck.VARIANTS for seed in (0, 1)]
    rows[-1] = row("propagated", 1, 0.0, -130.0, 3.0)
    _, (axes,) = plots.figure()
    bottleneck._plane(axes, rows, images)
    low, high = axes.get_xlim()
    assert -1 < low < -0.5
    assert log_n < high < 1.3 * log_n
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels[:2] == ["no bottleneck", "VIB"]
    assert labels[-1] == "MINE, propagated, outside at -64"  # the mean of the two seeds
    (edge,) = [line for line in axes.lines if line.get_marker() == "<"]
    assert list(edge.get_xdata()) == [-0.5]


def test_published_errors_are_named_after_the_variants():
    assert set(bottleneck.published()) == set(bottleneck.VARIANTS) == set(bottleneck.TITLES)
    assert bottleneck.published()["additive"] == 1.01


@pytest.mark.parametrize(
    "options", [["--seeds", "0"], ["--root", "nowhere"], ["--learning_rate", "0"], ["--beta", "-1"], ["--epochs", "0"]]
)
def test_bad_input_is_one_line(tmp_path, capsys, options):
    with pytest.raises(SystemExit) as stop:
        run(tmp_path, *options)
    assert stop.value.code == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_held_out_images_are_in_random_order_and_texts_have_deviations():
    data = load_dataset("digits")
    images = bottleneck._Images(data, torch.device("cpu"))
    _, held_out = split_validation(data.train, len(images.held_out[1]))
    assert images.held_out[1].tolist() != held_out.labels.tolist()
    assert sorted(images.held_out[1].tolist()) == sorted(held_out.labels.tolist())
    assert bottleneck._text([1.0, 3.0]) == "2.00 ± 1.41"
    assert bottleneck._text([1.0]) == "1.00"
