import math

import pytest
import torch
from torch import nn

from dim.mine import training
from dim.mine.networks import statistics_network
from dim.mine.training import Scores
from dim.objectives import OBJECTIVES


def test_moving_average_is_the_average_of_exponentials():
    average = training.MovingAverage(rate=0.25)
    plain = None
    for value in (0.3, 2.0, -1.0):
        logarithm = average.update(torch.tensor(value, dtype=torch.float64))
        plain = math.exp(value) if plain is None else 0.75 * plain + 0.25 * math.exp(value)
        assert math.isclose(float(logarithm), math.log(plain), rel_tol=1e-12)


def test_the_gradient_divides_by_the_moving_average():
    positive = torch.randn(3, 2, dtype=torch.float64, requires_grad=True)
    negative = torch.randn(3, 2, dtype=torch.float64, requires_grad=True)
    average = training.MovingAverage()
    average.update(torch.tensor(1.5, dtype=torch.float64))
    training.loss(OBJECTIVES["dv"], Scores(positive, negative), average).backward()
    with torch.no_grad():
        mean = 0.99 * math.exp(1.5) + 0.01 * negative.exp().mean()
        torch.testing.assert_close(negative.grad, negative.exp() / 6 / mean)
        torch.testing.assert_close(positive.grad, torch.full_like(positive, -1 / 6))


def test_other_objectives_are_simply_maximised():
    scores = Scores(torch.randn(6, 1), torch.randn(6, 3), torch.randn(6, 1))
    for objective in OBJECTIVES.values():
        if objective.name != "dv":
            value = training.loss(objective, scores, training.MovingAverage())
            torch.testing.assert_close(value, -objective(scores.positive, scores.negative, scores.log_baseline))


def test_batches_are_passes_in_new_orders():
    x = torch.arange(10)[:, None]
    feed = training.batches(x, 10 * x, 3, torch.Generator().manual_seed(0))
    passes = [torch.cat([next(feed)[0] for _ in range(3)]).flatten().tolist() for _ in range(2)]
    assert [len(set(one)) for one in passes] == [9, 9]
    assert passes[0] != passes[1]
    assert all(len(x) == 3 and torch.equal(z, 10 * x) for x, z in (next(feed) for _ in range(20)))


def small_critic(name, baseline=True):
    torch.manual_seed(0)
    network = statistics_network(name, (2,), 3, (8,), 4)
    x, z = torch.randn(11, 2), torch.randn(11, 3)
    return training.Critic(network, nn.Linear(3, 1) if baseline else None, nn.Identity(), nn.Identity()), x, z


@pytest.mark.parametrize("name", ["concat", "separable"])
def test_held_out_scores_are_those_of_a_batch_in_chunks(name):
    critic, x, z = small_critic(name)
    whole, parts = critic(x, z, 4), training.held_out(critic, x, z, 4, chunk=5)
    torch.testing.assert_close(parts.positive, whole.positive.detach())
    torch.testing.assert_close(parts.negative, whole.negative.detach())
    torch.testing.assert_close(parts.log_baseline, whole.log_baseline.detach())
    for i in range(11):
        for k in range(4):
            alone = critic.network(x[None, (i + k + 1) % 11], z[None, i])
            torch.testing.assert_close(alone[0], whole.negative[i, k])


def test_the_rate_falls_to_nothing_along_a_cosine():
    critic, x, z = small_critic("concat")
    trainer = training.Trainer(critic, OBJECTIVES["dv"], 0.1, 4, 3)
    moved = []
    for _ in range(4):
        before = [parameter.detach().clone() for parameter in critic.network.parameters()]
        trainer.step(x, z)
        after = [parameter.detach() for parameter in critic.network.parameters()]
        moved.append(max(float((a - b).abs().max()) for a, b in zip(before, after, strict=True)))
    # Adam's first step is the rate itself.
    assert moved[0] == pytest.approx(0.1, rel=1e-3)
    assert trainer._optimiser.param_groups[0]["lr"] == pytest.approx(0, abs=1e-9)
    assert moved[3] < 0.3 * moved[0]


def test_parts_of_scores_are_its_rows():
    scores = Scores(torch.arange(7.0)[:, None], torch.randn(7, 2), torch.randn(7, 1))
    parts = scores.split(3)
    assert torch.equal(torch.cat([part.negative for part in parts]), scores.negative)
    assert torch.equal(torch.cat([part.log_baseline for part in parts]), scores.log_baseline)
    first = OBJECTIVES["dv"].estimate(scores.positive[:4], scores.negative[:4])
    assert Scores(scores.positive, scores.negative).split(2)[0].estimate(OBJECTIVES["dv"]) == first


def test_a_learned_baseline_belongs_to_the_scores_that_others_report():
    scores = Scores(torch.randn(7, 1), torch.randn(7, 2), torch.randn(7, 1))
    dv, tuba = OBJECTIVES["dv"], OBJECTIVES["tuba"]
    without = scores.positive - scores.log_baseline, scores.negative - scores.log_baseline
    assert scores.estimate(dv) == dv.estimate(*without)
    assert scores.estimate(tuba) == tuba.estimate(scores.positive, scores.negative, scores.log_baseline)


def test_the_best_weights_come_back_after_waiting_in_vain():
    critic, _, _ = small_critic("concat")
    best, stopped = training.Best(2), []
    for value in (1.0, 3.0, 2.0, 2.5):
        with torch.no_grad():
            critic.baseline.bias.fill_(value)
        stopped.append(best.stop(value, critic))
    assert stopped == [False, False, False, True]
    best.restore(critic)
    assert critic.baseline.bias.item() == 3.0
