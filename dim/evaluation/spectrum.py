"""How many directions a representation uses, from its singular values."""

import torch
from torch import Tensor

from dim.errors import UserError


def spectrum(features: Tensor, chunk: int = 8192) -> dict[str, float]:
    """Effective dimensions of features (N, D), each between 1 and D.

    Returns:
        `rankme`: exp of the entropy of the normalised singular values of the features as they are (Garrido et
        al. 2023, RankMe); `effective_rank`: the same of the centred features (Roy and Vetterli 2007), which a
        large mean does not swamp; `participation_ratio`: (sum of the covariance's eigenvalues)^2 over the sum
        of their squares; `dimensions`: D.

    Raises:
        UserError: not (N, D), or no variation at all.
    """
    if features.ndim != 2 or len(features) < 2:
        raise UserError(f"spectrum: features must be (N, D) with N > 1, found {tuple(features.shape)}")
    size = features.shape[1]
    second = torch.zeros(size, size, dtype=torch.float64, device=features.device)
    mean = features.sum(0, dtype=torch.float64) / len(features)
    centred = torch.zeros_like(second)
    for part in features.split(chunk):
        exact = part.double()
        second += exact.T @ exact
        exact -= mean
        centred += exact.T @ exact
    variances = eigenvalues(centred)
    if not variances.sum() > 0:
        raise UserError("spectrum: all rows of the features are equal; the encoder has collapsed")
    return {
        "rankme": entropy_rank(eigenvalues(second).sqrt()),
        "effective_rank": entropy_rank(variances.sqrt()),
        "participation_ratio": (variances.sum().square() / variances.square().sum()).item(),
        "dimensions": float(size),
    }


def eigenvalues(moments: Tensor) -> Tensor:
    """Eigenvalues of a positive semidefinite matrix; those below its resolution are 0."""
    values = torch.linalg.eigvalsh(moments)
    return values.masked_fill(values < values.max() * len(values) * 1e-15, 0.0)


def entropy_rank(singular: Tensor) -> float:
    """exp of the entropy of non-negative numbers normalised to sum to one."""
    return torch.special.entr(singular / singular.sum()).sum().exp().item()
