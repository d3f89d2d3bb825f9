import pytest
import torch

from dim.errors import UserError
from dim.networks.decoders import BASELINE_WIDTHS, PROBE_WIDTHS, Decoder


@pytest.mark.parametrize("widths", [PROBE_WIDTHS, BASELINE_WIDTHS])
@pytest.mark.parametrize("side", [32, 64])
def test_images_have_the_side_and_range(side, widths):
    images = Decoder(64, side, widths)(torch.randn(2, 64) * 100)
    assert images.shape == (2, 3, side, side)
    assert images.abs().max() <= 1


def test_parameters_are_those_of_the_published_layers():
    # Table 4: linear 64 -> 8192, 4x4 transposed convolutions 512-256-128-64, conv 3x3 with bias, batch norms.
    weights = 64 * 8192 + 16 * (512 * 256 + 256 * 128 + 128 * 64) + 9 * 64 * 3 + 3
    norms = 2 * (8192 + 256 + 128 + 64)
    assert sum(p.numel() for p in Decoder(64, 32, PROBE_WIDTHS).parameters()) == weights + norms


def test_other_sides_are_named():
    with pytest.raises(UserError, match="found 48"):
        Decoder(64, 48)
