import numpy as np
import pytest
import torch
from sklearn.preprocessing import StandardScaler
from torch import nn

from dim.errors import UserError
from dim.evaluation.features import Standardiser, check_features, encode, split


class Encoder(nn.Module):
    """A small encoder with dropout and batch normalisation, whose modes matter."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Sequential(nn.Conv2d(3, 4, 4, 2, 1), nn.BatchNorm2d(4), nn.Dropout(0.5))
        self.y = nn.Linear(4 * 16, 5)

    def forward(self, images):
        conv = self.conv(images)
        return {"conv": conv, "y": self.y(conv.flatten(1))}


@pytest.fixture
def images():
    return torch.randint(0, 256, (23, 3, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def test_encode_equals_one_evaluation_pass(images):
    torch.manual_seed(0)
    encoder = Encoder()
    features = encode(encoder, images, ("conv", "y"), batch_size=10)
    encoder.eval()
    expected = encoder(images.float() / 127.5 - 1)
    assert features["conv"].shape == (23, 64)
    torch.testing.assert_close(features["conv"], expected["conv"].flatten(1))
    torch.testing.assert_close(features["y"], expected["y"])
    assert not features["y"].requires_grad


def test_encode_gives_every_submodule_its_mode_back(images):
    encoder = Encoder()
    encoder.conv[1].eval()
    running = encoder.conv[1].running_mean.clone()
    encode(encoder, images, ("y",))
    assert encoder.training
    assert encoder.conv[2].training
    assert not encoder.conv[1].training
    assert torch.equal(encoder.conv[1].running_mean, running)


def test_encode_reports_progress_up_to_one(images):
    fractions = []
    encode(Encoder(), images, ("y",), batch_size=10, progress=lambda _, fraction: fractions.append(fraction))
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0


def test_encode_names_what_is_wrong(images):
    with pytest.raises(UserError, match="uint8"):
        encode(Encoder(), images.float(), ("y",))
    with pytest.raises(UserError, match="no layer 'fc'; it has conv, y"):
        encode(Encoder(), images, ("fc",))
    broken = Encoder()
    nn.init.constant_(broken.y.bias, float("nan"))
    with pytest.raises(UserError, match="layer 'y' holds NaN"):
        encode(broken, images, ("conv", "y"))


def test_standardiser_equals_scikit_learn(digits):
    ours = Standardiser.fit(digits.train, chunk=100)
    scaler = StandardScaler().fit(digits.train.double().numpy())
    np.testing.assert_allclose(ours(digits.test), scaler.transform(digits.test.double().numpy()), atol=1e-4)


def test_standardiser_leaves_the_scale_of_constant_features():
    features = torch.randn(1000, 3, generator=torch.Generator().manual_seed(0))
    features[:, 1] = 0.1
    features[:, 2] = 0
    standardiser = Standardiser.fit(features)
    assert standardiser.scale[1:].tolist() == [1, 1]
    assert standardiser(features)[:, 1:].abs().max() < 1e-7


def test_standardiser_is_exact_far_from_zero():
    # In float32 sums of squares, a deviation of 1 around 1000 would be lost.
    features = 1000 + torch.randn(20000, 2, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(Standardiser.fit(features).scale, features.double().std(0, correction=0).float())


def test_split_is_a_partition_that_the_seed_decides():
    kept, held = split(100, 0.1, seed=3)
    assert len(held) == 10
    assert sorted(torch.cat([kept, held]).tolist()) == list(range(100))
    assert torch.equal(held, split(100, 0.1, seed=3)[1])
    assert not torch.equal(held, split(100, 0.1, seed=4)[1])
    with pytest.raises(UserError, match="at least one row"):
        split(100, 0.001, seed=0)


@pytest.mark.parametrize(
    ("features", "labels", "message"),
    [
        (torch.zeros(4, 2, dtype=torch.float64), torch.zeros(4, dtype=torch.int64), "float32"),
        (torch.zeros(4, 2, 1), torch.zeros(4, dtype=torch.int64), "float32"),
        (torch.zeros(4, 2), torch.zeros(3, dtype=torch.int64), "labels must be int64"),
        (torch.zeros(4, 2), torch.full((4,), -1), "from 0 upwards"),
        (torch.full((4, 2), torch.inf), torch.zeros(4, dtype=torch.int64), "NaN or infinity"),
        (torch.zeros(4, 2).numpy(), torch.zeros(4, dtype=torch.int64), "features must be a tensor .* found ndarray"),
        (torch.zeros(4, 2), [0, 1, 2, 3], "labels must be a tensor .* found list"),
    ],
)
def test_check_features_names_what_is_wrong(features, labels, message):
    with pytest.raises(UserError, match=message):
        check_features("svm", features, labels)
