import math

import pytest
import torch

from dim.errors import UserError
from dim.evaluation.spectrum import spectrum


def test_equals_the_definitions_on_singular_values(digits):
    result = spectrum(digits.train, chunk=100)
    exact = digits.train.double()
    for key, matrix in (("rankme", exact), ("effective_rank", exact - exact.mean(0))):
        singular = torch.linalg.svdvals(matrix)
        p = singular[singular > 0] / singular.sum()
        assert result[key] == pytest.approx(math.exp(-(p * p.log()).sum()), rel=1e-5)
    variances = torch.linalg.eigvalsh(exact.T.cov())
    expected = (variances.sum() ** 2 / variances.square().sum()).item()
    assert result["participation_ratio"] == pytest.approx(expected)


def test_orthogonal_directions_are_counted():
    signs = torch.tensor([[1.0, 1, 0], [1, -1, 0], [-1, 1, 0], [-1, -1, 0]])
    result = spectrum(signs)
    assert result["rankme"] == pytest.approx(2)
    assert result["effective_rank"] == pytest.approx(2)
    assert result["participation_ratio"] == pytest.approx(2)
    assert result["dimensions"] == 3


def test_a_large_mean_swamps_rankme_only():
    features = torch.randn(2000, 8, generator=torch.Generator().manual_seed(0)) + 100
    result = spectrum(features)
    assert result["rankme"] < 2
    assert result["effective_rank"] > 7.9


def test_collapse_is_named():
    with pytest.raises(UserError, match="collapsed"):
        spectrum(torch.ones(10, 3))
    with pytest.raises(UserError, match="N > 1"):
        spectrum(torch.ones(1, 3))
