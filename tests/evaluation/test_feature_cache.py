import pytest
import torch

from dim.data.sources import load_dataset
from dim.evaluation import feature_cache
from dim.networks.encoders import build_encoder

CPU = torch.device("cpu")


@pytest.fixture
def images():
    return load_dataset("digits").test.images[:20]


@pytest.fixture
def encoder():
    torch.manual_seed(0)
    return build_encoder("conv32", 8)


@pytest.fixture
def encoded(monkeypatch):
    """The layers that were encoded rather than read, call by call; not those of the few images that make the name."""
    calls, original = [], feature_cache.encode

    def encode(encoder, images, layers, **options):
        if len(images) > 8:
            calls.append(list(layers))
        return original(encoder, images, layers, **options)

    monkeypatch.setattr(feature_cache, "encode", encode)
    return calls


def test_kept_features_are_those_that_were_encoded(encoder, images, encoded, tmp_path):
    first = feature_cache.cached(encoder, images, ["fc", "y"], CPU, tmp_path)
    second = feature_cache.cached(encoder, images, ["y", "conv"], CPU, tmp_path)
    assert encoded == [["fc", "y"], ["conv"]]
    assert torch.equal(first["y"], second["y"])
    assert list(second) == ["y", "conv"]


def test_other_weights_or_images_are_encoded_anew(encoder, images, encoded, tmp_path):
    feature_cache.cached(encoder, images, ["y"], CPU, tmp_path)
    changed = images.clone()
    changed[0, 0, 0, 0] ^= 1
    feature_cache.cached(encoder, changed, ["y"], CPU, tmp_path)
    with torch.no_grad():
        next(iter(encoder.buffers())).add_(1e-3)  # running statistics count as much as weights
    features = feature_cache.cached(encoder, images, ["y"], CPU, tmp_path)
    assert len(encoded) == 3
    assert torch.equal(features["y"], feature_cache.encode(encoder, images, ["y"])["y"])


def test_an_encoder_whose_code_has_changed_is_encoded_anew(encoder, images, encoded, tmp_path, monkeypatch):
    feature_cache.cached(encoder, images, ["y"], CPU, tmp_path)
    forward = type(encoder).forward
    monkeypatch.setattr(type(encoder), "forward", lambda self, x: {"y": -forward(self, x)["y"]})
    features = feature_cache.cached(encoder, images, ["y"], CPU, tmp_path)
    assert len(encoded) == 2
    assert torch.equal(features["y"], feature_cache.encode(encoder, images, ["y"])["y"])


def test_damaged_files_are_replaced(encoder, images, encoded, tmp_path):
    first = feature_cache.cached(encoder, images, ["y"], CPU, tmp_path)
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:100])
    second = feature_cache.cached(encoder, images, ["y"], CPU, tmp_path)
    assert len(encoded) == 2
    assert torch.equal(first["y"], second["y"])
    feature_cache.cached(encoder, images, ["y"], CPU, tmp_path)
    assert len(encoded) == 2


def test_without_a_folder_nothing_is_kept(encoder, images, encoded, tmp_path):
    feature_cache.cached(encoder, images, ["y"], CPU)
    feature_cache.cached(encoder, images, ["y"], CPU)
    assert len(encoded) == 2
    assert list(tmp_path.iterdir()) == []
