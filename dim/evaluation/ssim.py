"""Structural similarity of images, (N, 3, S, S) in [-1, 1], under three honest names; one number an image.

What the authors' code calls MS-SSIM is `ssim_authors` here: a single scale. Five-scale MS-SSIM needs more than
160 pixels, so `ms_ssim` uses as many scales as fit.
"""

from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional
from torchmetrics.functional.image import (
    multiscale_structural_similarity_index_measure,
    structural_similarity_index_measure,
)

TAPS, SIGMA = 11, 1.5  # the window of Wang et al. 2004; torchmetrics derives these taps from this sigma
BETAS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # Wang et al. 2003, finest scale first
NORMALIZE: Literal["relu"] = "relu"  # of products of scales, which may be negative: these count as zero
AUTHORS_SIGMA = 11.0  # nearly a box: a slip in the authors' code, kept in their column alone


def unit(images: Tensor) -> Tensor:
    """[-1, 1] -> [0, 1]."""
    return (images + 1) / 2


def ssim(images: Tensor, others: Tensor) -> Tensor:
    """Single-scale SSIM (Wang et al. 2004) of images shifted to [0, 1], (N,)."""
    result = structural_similarity_index_measure(
        unit(images), unit(others), sigma=SIGMA, kernel_size=TAPS, data_range=1.0, reduction="none"
    )
    assert isinstance(result, Tensor)
    return result


def betas(side: int) -> tuple[float, ...]:
    """The weights of as many scales as torchmetrics accepts for the window at this side, scaled to sum to 1."""
    scales = max(
        count
        for count in range(1, len(BETAS) + 1)
        if count == 1 or (side >= 2**count and side // (count - 1) ** 2 >= TAPS)
    )
    return tuple(beta / sum(BETAS[:scales]) for beta in BETAS[:scales])


def ms_ssim(images: Tensor, others: Tensor) -> Tensor:
    """Multi-scale SSIM (Wang et al. 2003) of images shifted to [0, 1] with the scales of `betas`, (N,)."""
    return multiscale_structural_similarity_index_measure(
        unit(images),
        unit(others),
        sigma=SIGMA,
        kernel_size=TAPS,
        data_range=1.0,
        betas=betas(images.shape[-1]),
        reduction="none",
        normalize=NORMALIZE,
    )


def ssim_authors(images: Tensor, others: Tensor) -> Tensor:
    """The authors' variant, (N,): on [-1, 1], yet with the constants for a range of 1; zero padding."""
    offsets = torch.arange(TAPS, dtype=images.dtype, device=images.device) - TAPS // 2
    window = (-(offsets**2) / (2 * AUTHORS_SIGMA**2)).exp()
    window /= window.sum()

    def smooth(maps: Tensor) -> Tensor:
        single = maps.flatten(0, 1).unsqueeze(1)
        single = functional.conv2d(single, window.view(1, 1, 1, -1), padding=(0, TAPS // 2))
        single = functional.conv2d(single, window.view(1, 1, -1, 1), padding=(TAPS // 2, 0))
        return single.view_as(maps)

    mean, other_mean = smooth(images), smooth(others)
    variance = smooth(images * images) - mean * mean
    other_variance = smooth(others * others) - other_mean * other_mean
    covariance = smooth(images * others) - mean * other_mean
    c1, c2 = 0.01**2, 0.03**2
    luminance = (2 * mean * other_mean + c1) / (mean * mean + other_mean * other_mean + c1)
    structure = (2 * covariance + c2) / (variance + other_variance + c2)
    return (luminance * structure).flatten(1).mean(1)


def settings(side: int) -> dict[str, Any]:
    """What the three numbers mean for images of this side, to be stored beside them."""
    window = {"taps": TAPS, "sigma": SIGMA, "data_range": 1.0, "k1": 0.01, "k2": 0.03}
    authors = {"taps": TAPS, "sigma": AUTHORS_SIGMA, "images": "[-1, 1]", "c1": 0.01**2, "c2": 0.03**2}
    return {
        "ms_ssim": {**window, "betas": list(betas(side)), "scales": len(betas(side)), "normalize": NORMALIZE},
        "ssim": window,
        "ssim_authors": {**authors, "padding": TAPS // 2},
    }
