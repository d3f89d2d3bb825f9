import warnings

import pytest

from dim.data.digits import load
from dim.data.loader import normalise
from dim.errors import UserError
from dim.networks.encoders import build_encoder
from dim.networks.inputs import check_images

SCALED = normalise(load(32).test.images[:8])


def test_scaled_images_pass_in_any_precision():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for images in (SCALED, SCALED.double(), SCALED.half(), SCALED.bfloat16(), SCALED[:0], SCALED[:1] * 0 + 1):
            check_images(images, 32)
        build_encoder("conv32", 8).features(SCALED)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (((SCALED + 1) * 127.5).round().byte(), r"features of uint8 images: scale them to \[-1, 1\]"),
        ((SCALED + 1) * 127.5, "values from 0 to 255"),
        ((SCALED - SCALED.mean()) / SCALED.std(), "without a data set's mean and deviation"),
        (SCALED.masked_fill(SCALED > 0.9, float("nan")), "from nan to nan"),
        (SCALED[:, :1], r"\(N, 3, 32, 32\), found \(8, 1, 32, 32\)"),
        (SCALED[..., :16], r"\(N, 3, 32, 32\), found \(8, 3, 32, 16\)"),
        (SCALED[0], r"\(N, 3, 32, 32\), found \(3, 32, 32\)"),
        (SCALED.permute(0, 2, 3, 1), r"found \(8, 32, 32, 3\)"),
    ],
)
def test_images_of_another_scaling_or_shape_are_refused_by_features(images, message):
    encoder = build_encoder("conv32", 8).eval()
    with pytest.raises(UserError, match=message) as error:
        encoder.features(images)
    assert "\n" not in str(error.value)


def test_images_from_0_to_1_are_warned_of():
    with pytest.warns(UserWarning, match=r"if they are in \[0, 1\], scale them"):
        check_images((SCALED + 1) / 2, 32)


def test_forward_does_not_look():
    # A training step must not wait for the device.
    build_encoder("conv32", 8)(SCALED * 100)
