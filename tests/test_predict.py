"""`dim predict` on images that lie around."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file

from dim import checkpoints, cli, predict
from dim.data import digits
from dim.data.loader import normalise
from dim.errors import UserError
from dim.models import Supervised


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A model as training begins with it: features need no training."""
    model, path = Supervised(num_classes=10), tmp_path_factory.mktemp("run") / "last.ckpt"
    torch.save({"state_dict": model.state_dict(), "hyper_parameters": dict(model.hparams)}, path)
    return path


@pytest.fixture
def images(tmp_path):
    """Real digits as files at several depths, one of another size."""
    pixels = digits.load(32).test.images[:3]
    names = ["b.png", "deep/c.png", "deep/er/a.png"]
    for name, image in zip(names, pixels, strict=True):
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(path)
    (tmp_path / "images" / "notes.txt").write_text("no image")
    Image.new("L", (50, 40)).save(tmp_path / "images" / "z.jpg")
    return tmp_path / "images", pixels, [*names, "z.jpg"]


def test_features_stand_beside_their_files(checkpoint, images, tmp_path):
    folder, pixels, names = images
    outputs = [tmp_path / "out.npz", tmp_path / "out.safetensors"]
    for output in outputs:
        predict.run([str(checkpoint), str(folder), "--output", str(output), "--layers", "fc,y"])
    encoder = checkpoints.load_encoder(checkpoint)
    with torch.no_grad():
        expected = encoder.features(normalise(pixels))
    arrays = np.load(outputs[0], allow_pickle=False)
    assert arrays["files"].tolist() == names
    assert sorted(arrays) == ["fc", "files", "y"]
    assert torch.allclose(torch.from_numpy(arrays["y"][:3]), expected["y"], atol=1e-5)
    with safe_open(outputs[1], "pt") as file:
        assert json.loads(file.metadata()["files"]) == names
        assert torch.equal(file.get_tensor("fc"), torch.from_numpy(arrays["fc"]))


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("end", ["npz", "safetensors"])
def test_features_of_a_data_set_stand_beside_its_labels(split, end, checkpoint, tmp_path):
    output = tmp_path / f"out.{end}"
    words = ["--split", split] if split == "train" else []
    predict.run([str(checkpoint), "digits", "--output", str(output), "--layers", "y", *words])
    data = getattr(digits.load(32), split)
    with torch.no_grad():
        expected = checkpoints.load_encoder(checkpoint).features(normalise(data.images))["y"]
    arrays = np.load(output) if end == "npz" else load_file(output)
    assert sorted(arrays) == ["labels", "y"]
    assert arrays["labels"].tolist() == data.labels.tolist()
    assert torch.allclose(torch.as_tensor(arrays["y"]), expected, atol=1e-5)


def test_a_data_set_that_is_not_there_is_one_line(checkpoint, tmp_path):
    with pytest.raises(UserError, match="CIFAR-10"):
        predict.run([str(checkpoint), "cifar10", "--root", str(tmp_path), "--output", str(tmp_path / "out.npz")])


def test_options_of_data_sets_are_not_for_folders(checkpoint, images, tmp_path):
    with pytest.raises(UserError, match="is a folder: root, split and download are for cifar10"):
        predict.run([str(checkpoint), str(images[0]), "--split", "train", "--output", str(tmp_path / "out.npz")])


def test_what_is_there_is_kept(checkpoint, images, tmp_path):
    (tmp_path / "out.npz").write_bytes(b"mine")
    words = [str(checkpoint), str(images[0]), "--output", str(tmp_path / "out.npz")]
    with pytest.raises(UserError, match="already there"):
        predict.run(words)
    assert (tmp_path / "out.npz").read_bytes() == b"mine"
    predict.run([*words, "--overwrite", "true"])
    assert len(np.load(tmp_path / "out.npz")["files"]) == 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--output", "features.csv"], "neither .npz nor .safetensors"),
        (["--layers", "conv9"], "no layer 'conv9'"),
    ],
)
def test_mistakes_are_one_line(checkpoint, images, options, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        cli.main(["predict", str(checkpoint), str(images[0]), *options])
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.glob("features.*"))


def test_folders_without_images_and_links_out_are_refused(checkpoint, images, tmp_path):
    (tmp_path / "empty").mkdir()
    for place, message in (("empty", "no images below"), ("nowhere", "is not a folder")):
        with pytest.raises(UserError, match=message):
            predict.run([str(checkpoint), str(tmp_path / place)])
    (images[0] / "link.png").symlink_to(checkpoint)
    with pytest.raises(UserError, match="leads out of"):
        predict.run([str(checkpoint), str(images[0])])
