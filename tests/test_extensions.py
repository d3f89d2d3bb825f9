"""Encoders, objectives and data sets that are not the package's own."""

import subprocess
import sys
from pathlib import Path

import pytest

from dim import extensions
from dim.errors import UserError

MODULE = """
from torch import nn
from dim.data.sources import Dataset, Split, load_dataset, source
from dim.networks.encoders import Encoder, encoder
from dim.objectives import objective

@encoder("tiny")
class Tiny(Encoder):
    image_size, layers = 32, ("y",)

    def __init__(self, code_size):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 8, 8), nn.BatchNorm2d(8), nn.ReLU())
        self.y = nn.Linear(128, code_size)

    def forward(self, images):
        maps = self.body(images)
        return {"local": maps, "y": self.y(maps.flatten(1))}

@objective
def difference(positive, negative):
    return positive.tanh().mean() - negative.tanh().mean()

@source("parity")
def parity(root):
    digits = load_dataset("digits")
    train, test = (Split(images, labels % 2) for images, labels in (digits.train, digits.test))
    return Dataset("parity", train, test, ("even", "odd"))
"""


def dim(folder, *arguments, **environment):
    # The installed command, which unlike `python -m dim` does not begin with the current folder.
    command = [str(Path(sys.executable).parent / "dim"), *arguments]
    environment = {**extensions.os.environ, "OMP_NUM_THREADS": "1", **environment}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)


def test_a_module_of_one_s_own_is_trained_evaluated_and_needed_for_it(tmp_path):
    (tmp_path / "mine_alone.py").write_text(MODULE)
    (tmp_path / "own.yaml").write_text(
        "data: {class_path: dim.data.ImageData, init_args: {source: parity}}\nname: own\n"
    )
    names = ["--model.encoder", "tiny", "--model.local_objective", "difference"]
    quick = ["--trainer.accelerator", "cpu", "--trainer.devices", "1", "--trainer.max_steps", "2"]
    fit = ["fit", "--config", "own.yaml", "--model", "DeepInfoMax", *names, *quick]
    trained = dim(tmp_path, *fit, DIM_IMPORT="mine_alone")
    assert trained.returncode == 0, trained.stderr
    evaluate = ["evaluate", "runs/parity/own", "--only", "knn"]
    evaluated = dim(tmp_path, *evaluate, DIM_IMPORT="mine_alone")
    assert evaluated.returncode == 0, evaluated.stderr
    assert "kNN" in evaluated.stdout
    exported = dim(tmp_path, "export", "runs/parity/own", "--output", "own.safetensors", DIM_IMPORT="mine_alone")
    assert exported.returncode == 0, exported.stderr
    load = [sys.executable, "-c", "import dim; print(type(dim.load_pretrained('own.safetensors')).__name__)"]
    environment = {**extensions.os.environ, "DIM_IMPORT": "mine_alone"}
    loaded = subprocess.run(load, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert loaded.stdout == "Tiny\n", loaded.stderr
    load = [sys.executable, "-c", "from dim.data.sources import load_dataset as l; print(l('parity').classes)"]
    read = subprocess.run(load, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert read.stdout == "('even', 'odd')\n", read.stderr
    predicted = dim(tmp_path, "predict", "runs/parity/own", "parity", DIM_IMPORT="mine_alone")
    assert predicted.returncode == 0, predicted.stderr
    refused = dim(tmp_path, *evaluate)
    assert refused.returncode == 2
    assert "there is no encoder 'tiny'" in refused.stderr
    assert "DIM_IMPORT" in refused.stderr


def test_what_is_no_module_is_one_line(tmp_path, monkeypatch):
    extensions.load("")
    extensions.load(" json , math ")
    with pytest.raises(UserError, match=r"DIM_IMPORT names the module no\.such, which cannot be imported"):
        extensions.load("json,no.such")
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "wrong_syntax.py").write_text("def")
    (tmp_path / "taken_name.py").write_text("from dim.objectives import dv, objective\nobjective(dv._value)\n")
    for name, message in (("wrong_syntax", "wrong_syntax, which cannot"), ("taken_name", "objective 'dv' already")):
        with pytest.raises(UserError, match=message):
            extensions.load(name)
    with pytest.raises(UserError, match="which cannot be imported"):
        extensions.load(".relative")
