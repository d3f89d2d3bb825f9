import math

import torch

from dim.mine import training
from dim.objectives import OBJECTIVES


def test_partners_are_permutations_without_fixed_points():
    for seed in range(20):
        partner = training.shuffled(7, torch.Generator().manual_seed(seed), torch.device("cpu"))
        assert sorted(partner.tolist()) == list(range(7))
        assert (partner != torch.arange(7)).all()


def test_moving_average_is_the_average_of_exponentials():
    average = training.MovingAverage(rate=0.25)
    plain = None
    for value in (0.3, 2.0, -1.0):
        logarithm = average.update(torch.tensor(value, dtype=torch.float64))
        plain = math.exp(value) if plain is None else 0.75 * plain + 0.25 * math.exp(value)
        assert math.isclose(float(logarithm), math.log(plain), rel_tol=1e-12)


def test_the_gradient_divides_by_the_moving_average():
    positive = torch.randn(1, 6, dtype=torch.float64, requires_grad=True)
    negative = torch.randn(1, 6, dtype=torch.float64, requires_grad=True)
    average = training.MovingAverage()
    average.update(torch.tensor(1.5, dtype=torch.float64))
    training.loss(OBJECTIVES["dv"], positive, negative, average).backward()
    with torch.no_grad():
        mean = 0.99 * math.exp(1.5) + 0.01 * negative.exp().mean()
        torch.testing.assert_close(negative.grad, negative.exp() / 6 / mean)
        torch.testing.assert_close(positive.grad, torch.full_like(positive, -1 / 6))


def test_other_objectives_are_simply_maximised():
    positive, negative = torch.randn(1, 6), torch.randn(1, 6)
    for name in ("jsd", "nwj", "smile"):
        value = training.loss(OBJECTIVES[name], positive, negative, training.MovingAverage())
        torch.testing.assert_close(value, -OBJECTIVES[name](positive, negative))
