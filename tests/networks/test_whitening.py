import pytest
import torch
from sklearn.datasets import load_digits, load_sample_image
from torch.nn import functional

from dim.networks.encoders import ENCODERS, build_encoder
from dim.networks.whitening import whiten


@pytest.fixture(scope="module")
def images():
    """260 pieces of a photograph, in [-1, 1]."""
    photograph = torch.tensor(load_sample_image("china.jpg")[:416]).permute(2, 0, 1)
    pieces = photograph.unfold(1, 32, 32).unfold(2, 32, 32).permute(1, 2, 0, 3, 4).flatten(0, 1)
    return pieces / 127.5 - 1


def first(encoder):
    return next(part for part in encoder.modules() if isinstance(part, torch.nn.Conv2d))


def test_first_layer_becomes_a_whitening(images):
    encoder = build_encoder("conv32", 64)
    convolution = first(encoder)
    length = convolution.weight.flatten(1).norm(dim=1).mean()
    whiten(first(encoder), images)
    torch.testing.assert_close(convolution.weight[:32], -convolution.weight[32:])
    torch.testing.assert_close(convolution.weight.flatten(1).norm(dim=1).mean(), length, rtol=0.05, atol=0)
    with torch.no_grad():
        outputs = convolution(images)[:, :32].transpose(0, 1).flatten(1).double()
    covariance = outputs.cov()
    variances = covariance.diagonal()
    assert (variances.diff() <= 1e-6).all()  # leading directions first
    off = covariance / (variances[:, None] * variances).sqrt() - torch.eye(32)
    assert off.abs().max() < 1e-2


def test_directions_are_those_of_the_patches(images):
    encoder = build_encoder("conv32", 64)
    whiten(first(encoder), images)
    patches = functional.unfold(images, 4, padding=1, stride=2).transpose(1, 2).flatten(0, 1).double()
    _, _, directions = torch.linalg.svd(patches - patches.mean(0), full_matrices=False)
    found = first(encoder).weight[:8].flatten(1).double() * 3**0.5
    torch.testing.assert_close(
        (found * directions[:8]).sum(1).abs(), torch.ones(8, dtype=torch.float64), atol=1e-3, rtol=0
    )


def test_images_may_come_in_any_number(images):
    """Moments are added up part by part."""
    filters = []
    for copies in (1, 3):
        torch.manual_seed(0)
        encoder = build_encoder("conv32", 16)
        whiten(first(encoder), images.repeat(copies, 1, 1, 1))
        filters.append(first(encoder).weight.detach())
    torch.testing.assert_close(filters[0][:8].abs(), filters[1][:8].abs(), atol=1e-4, rtol=1e-3)


def test_every_encoder_takes_it_and_keeps_filters_beyond(images):
    for name in ENCODERS:
        torch.manual_seed(0)
        encoder = build_encoder(name, 16)
        convolution = first(encoder)
        before = convolution.weight.detach().clone()
        whiten(first(encoder), images)
        changed = (convolution.weight != before).flatten(1).any(1)
        assert changed.sum() == min(len(before), 2 * before[0].numel()), name


def test_images_without_colour_have_fewer_directions():
    grey = torch.tensor(load_digits().images[:300, None] / 8 - 1, dtype=torch.float32)
    encoder = build_encoder("conv32", 16)
    before = first(encoder).weight.detach().clone()
    whiten(first(encoder), functional.interpolate(grey, size=32, mode="bilinear").expand(-1, 3, -1, -1))
    changed = (first(encoder).weight != before).flatten(1).any(1).sum()
    assert 8 <= changed <= 32
