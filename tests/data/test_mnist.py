import struct

import numpy as np
import pytest
import torch

from dim.data import mnist
from dim.errors import UserError


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    monkeypatch.setattr(mnist, "SIZES", {"train": 6, "t10k": 3})


def write(folder):
    folder.mkdir(parents=True)
    for name, count in mnist.SIZES.items():
        pixels = np.random.default_rng(count).integers(0, 256, (count, 28, 28), dtype=np.uint8)
        images = struct.pack(">IIII", 0x803, count, 28, 28) + pixels.tobytes()
        (folder / f"{name}-images-idx3-ubyte").write_bytes(images)
        (folder / f"{name}-labels-idx1-ubyte").write_bytes(struct.pack(">II", 0x801, count) + bytes(range(count)))


@pytest.mark.parametrize("inside", ["", "raw", "MNIST/raw"])
def test_the_official_files_wherever_they_lie(tmp_path, inside):
    write(tmp_path / "here" / inside)
    data = mnist.load(tmp_path / "here")
    assert data.train.images.shape == (6, 3, 28, 28)
    assert data.train.images.dtype == torch.uint8
    assert data.test.labels.tolist() == [0, 1, 2]
    assert data.train.labels.tolist() == [0, 1, 2, 3, 4, 5]
    expected = np.random.default_rng(3).integers(0, 256, (3, 28, 28), dtype=np.uint8)
    assert (data.test.images.numpy() == expected[:, None]).all()


def test_what_is_missing_or_damaged_is_said(tmp_path, monkeypatch):
    with pytest.raises(UserError, match=r"no MNIST .*MNIST/raw: allow --download"):
        mnist.load(tmp_path)
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / "train-images-idx3-ubyte").write_bytes(b"")
    with pytest.raises(UserError, match=r"in \S*begun \(lacks train-labels-idx1-ubyte\): allow --download"):
        mnist.load(tmp_path / "begun")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is a file"):
        mnist.load(tmp_path / "file")
    write(tmp_path / "raw")
    images = tmp_path / "raw" / "train-images-idx3-ubyte"
    images.write_bytes(images.read_bytes()[:-100])
    with pytest.raises(UserError, match="damaged"):
        mnist.load(tmp_path)
    monkeypatch.setitem(mnist.SIZES, "train", 5)
    write(tmp_path / "other")
    monkeypatch.setitem(mnist.SIZES, "train", 6)
    with pytest.raises(UserError, match="are not MNIST's 6 images"):
        mnist.load(tmp_path / "other")


def test_a_failed_download_is_one_line(tmp_path, monkeypatch):
    def failing(root, download):
        raise RuntimeError("Error downloading train-images-idx3-ubyte.gz")

    monkeypatch.setattr(mnist, "MNIST", failing)
    with pytest.raises(UserError, match="could not download MNIST into"):
        mnist.load(tmp_path, download=True)
