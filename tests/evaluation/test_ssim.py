import numpy as np
import pytest
import torch
from scipy.signal import convolve2d
from torchmetrics.functional.image import multiscale_structural_similarity_index_measure

from dim.evaluation.ssim import BETAS, betas, ms_ssim, settings, ssim, ssim_authors


@pytest.fixture
def pair():
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(3, 3, 32, 32, generator=generator) * 2 - 1
    return images, (images + 0.3 * torch.randn(images.shape, generator=generator)).clamp(-1, 1)


def defined(x, y, window, c1, c2, mode="same", luminance=True):
    """SSIM of two float64 planes from its definition: local means, variances and covariance.

    Without luminance it is the product of contrast and structure alone.
    """

    def smooth(plane):
        return convolve2d(plane, window, mode=mode)

    mx, my = smooth(x), smooth(y)
    vx, vy, cov = smooth(x * x) - mx**2, smooth(y * y) - my**2, smooth(x * y) - mx * my
    light = (2 * mx * my + c1) / (mx**2 + my**2 + c1) if luminance else 1.0
    return (light * (2 * cov + c2) / (vx + vy + c2)).mean()


def gaussian(sigma):
    line = np.exp(-((np.arange(11) - 5) ** 2) / (2 * sigma**2))
    return np.outer(line, line) / line.sum() ** 2


@pytest.mark.parametrize("measure", [ssim, ms_ssim, ssim_authors])
def test_identical_images_give_one_and_noise_gives_less(pair, measure):
    images, noisy = pair
    torch.testing.assert_close(measure(images, images), torch.ones(3))
    assert measure(images, noisy).max() < 0.98
    assert measure(images, noisy).shape == (3,)


def test_authors_variant_equals_its_definition(pair):
    images, noisy = pair
    expected = [
        np.mean([defined(x, y, gaussian(11), 0.01**2, 0.03**2) for x, y in zip(a, b, strict=True)])
        for a, b in zip(images.double().numpy(), noisy.double().numpy(), strict=True)
    ]
    np.testing.assert_allclose(ssim_authors(images, noisy).numpy(), expected, rtol=1e-4)


def test_ssim_equals_its_definition(pair):
    images, noisy = pair

    def reflected(planes):
        return np.pad((planes.double().numpy() + 1) / 2, ((0, 0), (0, 0), (5, 5), (5, 5)), mode="reflect")

    expected = [
        np.mean([defined(x, y, gaussian(1.5), 1e-4, 9e-4, "valid") for x, y in zip(a, b, strict=True)])
        for a, b in zip(reflected(images), reflected(noisy), strict=True)
    ]
    np.testing.assert_allclose(ssim(images, noisy).numpy(), expected, rtol=1e-4)


def test_ms_ssim_equals_its_definition(pair):
    """Contrast and structure of the fine scale, the whole SSIM of the coarse one, to the power of their weights."""
    images, noisy = ((side.double() + 1) / 2 for side in pair)
    weights = [beta / sum(BETAS[:2]) for beta in BETAS[:2]]

    def means(x, y, luminance):
        return np.mean(
            [defined(a, b, gaussian(1.5), 1e-4, 9e-4, "valid", luminance) for a, b in zip(x, y, strict=True)]
        )

    def reflected(planes):
        return np.pad(planes, ((0, 0), (5, 5), (5, 5)), mode="reflect")

    coarse, coarse_noisy = (torch.nn.functional.avg_pool2d(side, 2).numpy() for side in (images, noisy))
    expected = [
        means(a, b, False) ** weights[0] * means(reflected(c), reflected(d), True) ** weights[1]
        for a, b, c, d in zip(images.numpy(), noisy.numpy(), coarse, coarse_noisy, strict=True)
    ]
    np.testing.assert_allclose(ms_ssim(*pair).numpy(), expected, rtol=1e-4)


@pytest.mark.parametrize(("side", "scales"), [(16, 2), (32, 2), (64, 3), (176, 5)])
def test_scales_are_as_many_as_fit(side, scales):
    assert len(betas(side)) == scales
    assert sum(betas(side)) == pytest.approx(1)
    assert betas(side)[0] == pytest.approx(BETAS[0] / sum(BETAS[:scales]))
    images = torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(0)) * 2 - 1
    torch.testing.assert_close(ms_ssim(images, images), torch.ones(2))


def test_one_scale_more_does_not_fit():
    images = torch.zeros(1, 3, 32, 32)
    with pytest.raises(ValueError, match="must be larger than"):
        multiscale_structural_similarity_index_measure(images, images, data_range=1.0, betas=BETAS[:3])


def test_settings_state_the_scales():
    stated = settings(32)
    assert stated["ms_ssim"]["scales"] == 2
    assert stated["ssim_authors"]["sigma"] == 11
