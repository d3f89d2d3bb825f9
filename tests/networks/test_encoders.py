import pytest
import torch

from dim.errors import UserError
from dim.networks.encoders import ENCODERS, LAYERS, build_encoder


def test_the_paper_s_encoder_has_its_shapes_and_size():
    encoder = build_encoder("conv32", 64)
    assert encoder.shapes() == {"local": (128, 8, 8), "conv": (256, 4, 4), "fc": (1024,), "y": (64,)}
    assert sum(p.numel() for p in encoder.parameters()) == 4_921_280


@pytest.mark.parametrize("name", ENCODERS)
def test_every_encoder_names_its_outputs_and_can_be_probed(name):
    encoder = build_encoder(name, 10)
    images = torch.rand(4, 3, encoder.image_size, encoder.image_size) * 2 - 1
    training = encoder.training
    shapes = encoder.shapes()
    assert encoder.training == training
    outputs = encoder(images)
    assert {name: tuple(value.shape[1:]) for name, value in outputs.items()} == shapes
    assert set(LAYERS) <= set(shapes)
    features = encoder.features(images)
    assert all(features[layer].shape[0] == 4 and features[layer].ndim == 2 for layer in LAYERS)
    assert features["y"].shape == (4, 10)


def test_fc_and_local_come_after_relu_and_y_is_linear():
    outputs = build_encoder("conv32", 64)(torch.rand(8, 3, 32, 32) * 2 - 1)
    assert all(outputs[name].min() == 0 for name in ("local", "conv", "fc"))
    assert outputs["y"].min() < 0


def test_unknown_encoder_is_one_line():
    with pytest.raises(UserError, match="no encoder 'vgg'"):
        build_encoder("vgg", 64)
