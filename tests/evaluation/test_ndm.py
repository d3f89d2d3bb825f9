import math
import statistics

import pytest
import torch

from dim.errors import UserError
from dim.evaluation.ndm import NDMTraining, independent, ndm
from dim.networks.discriminators import CodeDiscriminator

SHORT = NDMTraining(epochs=24, batch_size=1000, learning_rate=2e-3, milestones=(16, 22), evaluations=4)


def gaussian(correlation, rows=4000, size=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    covariance = torch.full((size, size), correlation).fill_diagonal_(1.0)
    return torch.randn(rows, size, generator=generator) @ torch.linalg.cholesky(covariance).T, covariance


def test_permuting_keeps_each_marginal_and_breaks_the_rest():
    codes, _ = gaussian(0.9)
    shuffled = independent(codes, torch.Generator().manual_seed(7))
    assert torch.equal(shuffled.sort(0).values, codes.sort(0).values)
    assert float(torch.corrcoef(shuffled.T)[0, 1].abs()) < 0.05


def test_correlated_gaussians_have_their_total_correlation():
    codes, covariance = gaussian(0.6)
    truth = -0.5 * float(torch.logdet(covariance))
    found = ndm(codes, gaussian(0.6, seed=1)[0], SHORT)
    assert found["estimate"] == pytest.approx(truth, abs=max(0.1 * truth, 0.08))


def test_independent_features_give_nearly_nothing():
    found = ndm(gaussian(0.0)[0], gaussian(0.0, seed=1)[0], SHORT)
    assert abs(found["estimate"]) < 0.05


def test_estimate_and_ceiling_are_of_the_held_out_codes():
    training = NDMTraining("dv", epochs=8, batch_size=250, learning_rate=2e-3, evaluations=4)
    found = ndm(gaussian(0.9, rows=1000)[0], gaussian(0.0, rows=300, seed=1)[0], training)
    assert found["train_estimate"] > 1
    assert found["estimate"] < 0
    assert found["mean_of_last"] < 0
    assert found["ceiling"] == pytest.approx(math.log(300))


def test_training_and_estimates_are_their_definitions():
    train, test = gaussian(0.8, rows=300)[0] * 5 + 2, gaussian(0.5, rows=200, seed=1)[0]
    training = NDMTraining("kl", epochs=8, batch_size=100, learning_rate=1e-3, milestones=(4,), evaluations=8, seed=3)
    found = ndm(train, test, training)
    codes, held_out = ((side - train.mean(0)) / train.std(0, unbiased=False) for side in (train, test))
    torch.manual_seed(3)
    discriminator, generator = CodeDiscriminator(4), torch.Generator().manual_seed(3)
    optimiser = torch.optim.Adam(discriminator.parameters(), betas=(0.5, 0.999))

    def donsker_varadhan(joint, apart):
        return (joint.mean() - apart.exp().mean().log()).item()

    history = []
    for epoch in range(8):
        optimiser.param_groups[0]["lr"] = 1e-3 if epoch < 4 else 1e-4
        for rows in torch.randperm(300, generator=generator).split(100):
            joint, apart = discriminator(codes[rows]), discriminator(independent(codes[rows], generator))
            optimiser.zero_grad()
            ((apart - 1).exp().mean() - joint.mean()).backward()
            optimiser.step()
        copies = torch.cat([independent(held_out, generator) for _ in range(10)])
        estimate = donsker_varadhan(discriminator(held_out), discriminator(copies))
        history.append((estimate, donsker_varadhan(joint, apart)))
    for entry, (estimate, on_training) in zip(found["history"], history, strict=True):
        assert entry["estimate"] == pytest.approx(estimate, rel=1e-3, abs=1e-5)
        assert entry["train"] == pytest.approx(on_training, rel=1e-3, abs=1e-5)
    last = [estimate for estimate, _ in history[-2:]]
    assert found["estimate"] == pytest.approx(last[-1], rel=1e-3)
    assert found["mean_of_last"] == pytest.approx(statistics.fmean(last), rel=1e-3)
    assert found["spread"] == pytest.approx(statistics.stdev(last), rel=1e-2)
    assert found["train_estimate"] == pytest.approx(history[-1][1], rel=1e-3)


def test_codes_of_one_feature_are_refused():
    for train, test in (((10, 1), (10, 1)), ((10, 3), (10, 4)), ((10, 3), (1, 3)), ((10, 3), (10,))):
        with pytest.raises(UserError, match=r"D at least 2 and the same D, found \(10, "):
            ndm(torch.zeros(train), torch.zeros(test), SHORT)
    with pytest.raises(UserError, match="epochs is 0"):
        ndm(torch.zeros(10, 3), torch.zeros(10, 3), NDMTraining(epochs=0))
