import pytest
import torch

from dim.errors import UserError
from dim.networks.critics import GlobalConcatCritic
from dim.networks.encoders import ENCODERS, LAYERS, Encoder, build_encoder, encoder


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
    assert set(encoder.layers) <= set(shapes)
    assert encoder.layers == LAYERS or "globals" in name
    features = encoder.features(images)
    assert tuple(features) == encoder.layers
    assert all(features[layer].shape[0] == 4 and features[layer].ndim == 2 for layer in features)
    assert features["y"].shape == (4, 10 * (25 if "globals" in name else 1))


@pytest.mark.parametrize("name", ENCODERS)
def test_every_output_trains_all_that_comes_before(name):
    built = build_encoder(name, 10)
    first = next(built.parameters())
    images = torch.rand(2, 3, built.image_size, built.image_size) * 2 - 1
    for output, value in built(images).items():
        (slope,) = torch.autograd.grad(value.square().sum(), first, retain_graph=True)
        assert slope.abs().sum() > 0, output


@pytest.mark.parametrize(
    ("name", "shapes"),
    [
        ("conv64", {"local": (256, 8, 8), "conv": (512, 4, 4), "fc": (1024,)}),
        ("alexnet64", {"local": (384, 15, 15), "conv": (192, 7, 7), "fc": (4096,)}),
        ("folded32", {"local": (1024, 7, 7), "conv": (1024, 7, 7), "fc": (1024,)}),
        ("folded64", {"local": (192, 7, 7), "conv": (192, 7, 7), "fc": (4096,)}),
        ("folded32_globals", {"local": (1024, 7, 7), "y": (64, 5, 5)}),
    ],
)
def test_shapes(name, shapes):
    found = build_encoder(name, 64).shapes()
    assert {output: found[output] for output in shapes} == shapes


@pytest.mark.parametrize(
    ("name", "weights"),
    [
        ("conv64", 11_213_760),
        ("alexnet64", 58_416_160),
        ("folded32", 54_884_224),
        ("folded64", 58_416_160),
        ("folded32_globals", 4_030_528),
        ("folded64_globals", 2_940_128),
    ],
)
def test_no_layer_is_lost(name, weights):
    with torch.device("meta"):
        assert sum(parameter.numel() for parameter in build_encoder(name, 64).parameters()) == weights


@pytest.mark.parametrize("name", ["folded32", "folded64"])
def test_a_folded_position_sees_its_crop_alone(name):
    encoder = build_encoder(name, 64).eval()
    size, crop = encoder.image_size, encoder.image_size // 4
    images = torch.rand(1, 3, size, size) * 2 - 1
    changed = images.clone()
    changed[:, :, :crop, crop : 2 * crop] += 1  # rows of the first crops, columns of the crops 1, 2 and 3
    with torch.no_grad():
        same = (encoder(images)["local"] == encoder(changed)["local"]).all(1)[0]
    different = {tuple(place) for place in (~same).nonzero().tolist()}
    assert different == {(row, column) for row in (0, 1) for column in (1, 2, 3)}


def test_fc_and_local_come_after_relu_and_y_is_linear():
    outputs = build_encoder("conv32", 64)(torch.rand(8, 3, 32, 32) * 2 - 1)
    assert all(outputs[name].min() == 0 for name in ("local", "conv", "fc"))
    assert outputs["y"].min() < 0


class Odd(Encoder):
    image_size = 8

    def __init__(self, outputs):
        super().__init__()
        self.scale, self.outputs = torch.nn.Parameter(torch.ones(())), outputs

    def forward(self, images):
        return self.outputs and dict.fromkeys(self.outputs, images * self.scale)


@pytest.mark.parametrize("outputs", [None, ("conv", "fc", "y"), ("local", "y")])
def test_an_encoder_that_lacks_an_output_is_told(outputs):
    assert set(Odd(("local", *LAYERS)).half().shapes()) == {"local", *LAYERS}
    with pytest.raises(UserError, match="Odd gives no output"):
        Odd(outputs).shapes()


def test_an_output_that_something_else_needs_is_named():
    assert Odd(("local", *LAYERS)).shapes()["conv"] == (3, 8, 8)
    short = Odd(("local", "y"))
    short.layers = ("y",)
    with pytest.raises(UserError, match="Odd gives no output conv, which this model needs"):
        GlobalConcatCritic(short.shapes(), 4, 8)


def test_no_name_is_taken_twice():
    with pytest.raises(UserError, match="an encoder 'conv32' already"):
        encoder("conv32")(Odd)
    assert ENCODERS["conv32"] is not Odd


def test_unknown_encoder_is_one_line():
    with pytest.raises(UserError, match="no encoder 'vgg'"):
        build_encoder("vgg", 64)
