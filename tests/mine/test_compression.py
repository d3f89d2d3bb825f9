import dataclasses
import math
from typing import get_args

import pytest
import torch
from torch.distributions import Independent, Normal, kl_divergence
from torch.nn.functional import cross_entropy

from dim.mine import compression, training
from dim.objectives import dv

SETTINGS = compression.Settings(epochs=1, batch_size=10)
VARIANTS = get_args(compression.Variant)


def batch(rows=10, size=16):
    return torch.rand(rows, size) * 2 - 1, torch.arange(rows) % 3


def learner(variant, steps=1):
    torch.manual_seed(0)
    return compression.Learner(variant, 16, 3, SETTINGS, steps, torch.device("cpu"))


def information(trained, x, z):
    """DV of each code with its own image against the next one's."""
    network = trained.critic.network
    return network(x, z).mean() - network(x.roll(-1, 0), z).exp().mean().log()


def test_closed_form_is_the_divergence_of_the_distributions():
    mean, scale = torch.randn(5, 8, dtype=torch.float64), torch.rand(5, 8, dtype=torch.float64) + 0.1
    encoder = Independent(Normal(mean, scale), 1)
    prior = Independent(Normal(torch.zeros_like(mean), torch.ones_like(mean)), 1)
    torch.testing.assert_close(compression.gaussian_kl(mean, scale), kl_divergence(encoder, prior))


def test_codes_are_random_where_the_variant_has_noise():
    x, _ = batch()
    for variant in VARIANTS:
        encoder = compression.Encoder(16, variant, SETTINGS)
        first, second = encoder(x), encoder(x)
        assert first.z.shape == (10, 256)
        assert torch.equal(first.z, second.z) == (variant == "deterministic")
        assert (first.mean is None) == (variant not in ("vib", "gaussian"))


def test_noise_enters_where_it_should():
    x, _ = batch()
    encoder = compression.Encoder(16, "additive", SETTINGS)
    with torch.no_grad():
        for layer in (*encoder.hidden, encoder.last):
            layer.weight.zero_()
            layer.bias.zero_()
        # Of the hidden layers nothing is left: what remains is the noise of the last one.
        assert float(encoder(x).z.std()) == pytest.approx(SETTINGS.noise, rel=0.05)
        # With the sum of the hidden layer behind it, its noise too: rectified, of variance (1 - 1 / pi) / 2.
        encoder.last.weight.fill_(1)
        spread = SETTINGS.noise * math.sqrt(1 + 1024 * (1 - 1 / math.pi) / 2)
        assert float(encoder(x.repeat(400, 1)).z[:, 0].std()) == pytest.approx(spread, rel=0.05)
        propagated = compression.Encoder(16, "propagated", SETTINGS)
        propagated.hidden[0].weight[:, 16:] = 0
        assert torch.equal(propagated(x).z, propagated(x).z)
        gaussian = compression.Encoder(16, "gaussian", SETTINGS)
        code = gaussian(x)
        standard = (code.z - code.mean) / code.scale
    assert float(standard.mean()) == pytest.approx(0, abs=0.06)
    assert float(standard.std()) == pytest.approx(1, abs=0.06)


def test_penalties_are_what_they_stand_for():
    x, _ = batch()
    for variant in VARIANTS:
        trained = learner(variant)
        trained.critic.eval()
        code = trained.model.encoder(x)
        found = compression.penalty(variant, code, x, trained.critic)
        if variant == "deterministic":
            assert float(found) == 0
            continue
        if variant == "vib":
            expected = compression.gaussian_kl(code.mean, code.scale).mean()
        else:
            expected = information(trained, x, code.z)
        torch.testing.assert_close(found, expected)
        found.backward()
        assert trained.model.encoder.last.weight.grad.abs().sum() > 0
        assert all(parameter.grad is None for parameter in trained.critic.parameters())


def test_the_statistics_network_raises_and_the_encoder_lowers_information():
    x, _ = batch()
    trained = learner("gaussian")
    trained.critic.eval()
    code = trained.model.encoder(x)
    z = code.z.detach().requires_grad_()
    code = code._replace(z=z)

    def value():
        with torch.no_grad():
            return float(information(trained, x, z))

    before = value()
    compression.penalty("gaussian", code, x, trained.critic).backward()
    with torch.no_grad():
        z -= 0.1 * z.grad  # as an optimiser that minimises the loss
    assert value() < before
    before = value()
    optimiser = torch.optim.SGD(trained.critic.parameters(), 0.01)
    training.loss(dv, trained.critic(x, z.detach(), 1), trained.mean).backward()
    optimiser.step()
    assert value() > before


def test_noise_of_the_statistics_network_is_for_training_only():
    x, _ = batch()
    z = torch.randn(10, 256)
    network = compression.NoisyNetwork(16)
    assert not torch.equal(network(x, z), network(x, z))
    amounts = [noise.sigma for noise in network.modules() if isinstance(noise, compression.Noise)]
    assert sorted(amounts) == [0.3, 0.3, 0.5, 0.5]
    # z has noise of its own: with the other three off, a score still moves.
    network.eval()
    network.noise.train()
    assert not torch.equal(network(x, z), network(x, z))
    network.eval()
    assert torch.equal(network(x, z), network(x, z))
    layers = [network.joint, *network.rest]
    assert [layer.out_features for layer in layers if isinstance(layer, torch.nn.Linear)] == [512, 512, 1]


def test_the_rate_falls_and_the_average_forgets_the_start():
    x, y = batch()
    trained = learner("deterministic", steps=4)
    first = trained.model.classifier.bias.detach().clone()
    seen = []
    for _ in range(4):
        trained.step(x, y)
        seen.append(trained.model.classifier.bias.detach().clone())
    rate = trained.optimiser.param_groups[0]["lr"]
    assert rate == pytest.approx(SETTINGS.learning_rate * SETTINGS.final)
    average = seen[0]  # the first update takes the weights over
    for count, weights in enumerate(seen[1:], 1):
        kept = (1 + count) / (10 + count)
        average = kept * average + (1 - kept) * weights
    torch.testing.assert_close(trained.averaged.module.classifier.bias.detach(), average)
    assert not torch.equal(average, first)


@pytest.mark.parametrize("variant", ["vib", "gaussian"])
def test_a_step_s_gradient_is_that_of_cross_entropy_and_weighted_penalty(variant):
    x, y = batch()
    trained = learner(variant)
    trained.settings = dataclasses.replace(SETTINGS, beta=3.0)
    parameters = list(trained.model.parameters())
    torch.manual_seed(1)
    code, logits = trained.model(x)
    loss = cross_entropy(logits, y) + 3.0 * compression.penalty(variant, code, x, trained.critic)
    expected = torch.autograd.grad(loss, parameters)
    torch.manual_seed(1)
    trained.step(x, y)
    for parameter, gradient in zip(parameters, expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)


def test_a_gaussian_encoder_starts_sure_of_its_codes():
    encoder = compression.Encoder(16, "vib", SETTINGS)
    with torch.no_grad():
        encoder.last.weight.zero_()
        encoder.last.bias.zero_()
    code = encoder(batch()[0])
    torch.testing.assert_close(code.scale, torch.full_like(code.scale, math.log1p(math.exp(-5))))


def test_the_error_is_of_the_averaged_weights():
    x, y = batch(30)
    trained = learner("deterministic")
    before = trained.error(x, y)
    with torch.no_grad():
        trained.model.classifier.bias[0] += 1e4
        assert trained.error(x, y) == before
        trained.averaged.module.classifier.bias[0] += 1e4
    assert trained.error(x, y) == pytest.approx(100 * float((y != 0).double().mean()))


def test_the_plane_s_estimate_is_without_the_statistics_network_s_noise():
    x, y = batch(30)
    trained = learner("deterministic")
    found = trained.plane(x, y)["x_z"]
    assert trained.plane(x, y)["x_z"] == found
    critic = trained.critic.eval()
    with torch.no_grad():
        z = trained.model.encoder(x).z
        follow = torch.arange(30)[:, None] + torch.arange(1, compression.NEGATIVES + 1)
        negative = torch.stack([critic.network(x[rows % 30], z) for rows in follow.T])
        expected = critic.network(x, z).mean() - negative.exp().mean().log()
    assert found == pytest.approx(float(expected), abs=1e-5)


def test_the_plane_and_the_error():
    x, y = batch(30)
    trained = learner("deterministic")
    plane = trained.plane(x, y)
    with torch.no_grad():
        loss = cross_entropy(trained.model(x)[1], y)
        wrong = (trained.averaged(x)[1].argmax(1) != y).double().mean()
    assert plane["z_y"] == pytest.approx(math.log(3) - float(loss), rel=1e-5)
    assert set(plane) == {"x_z", "z_y"}
    assert trained.error(x, y) == pytest.approx(100 * float(wrong))
    assert trained.critic.training
    assert "kl" in learner("vib").plane(x, y)


def test_training_learns_and_repeats():
    x, _ = batch(200)
    y = (x[:, 0] > 0).long()
    settings = compression.Settings(epochs=4, batch_size=20)
    errors = []
    for _ in range(2):
        passes = list(compression.train("vib", x, y, 2, settings, 1))
        epochs, trained = [epoch for epoch, _ in passes], passes[-1][1]
        errors.append(trained.error(x, y))
    assert errors[0] == errors[1] < 15
    assert epochs[0] == 0
    assert epochs[-1] == 4
    assert epochs == sorted(epochs)


def test_the_plane_s_bounds_are_their_definitions():
    trained, (x, _) = learner("vib"), batch(12)
    y = torch.tensor([0] * 7 + [1] * 4 + [2])
    torch.manual_seed(1)
    found = trained.plane(x, y)
    torch.manual_seed(1)
    code, logits = trained.model(x)
    shares = torch.tensor([7, 4, 1]) / 12
    entropy = -(shares * shares.log()).sum() - cross_entropy(logits, y)
    assert found["z_y"] == pytest.approx(entropy.item(), abs=1e-5)
    prior = Independent(Normal(torch.zeros_like(code.mean), torch.ones_like(code.mean)), 1)
    divergence = kl_divergence(Independent(Normal(code.mean, code.scale), 1), prior).mean()
    assert found["kl"] == pytest.approx(divergence.item(), rel=1e-5)


@pytest.mark.parametrize(("variant", "draws"), [("vib", 12), ("deterministic", 1)])
def test_probabilities_are_averaged_over_draws_of_a_random_code(variant, draws, monkeypatch):
    trained, (x, _) = learner(variant), batch(4)
    trained.settings = dataclasses.replace(SETTINGS, draws=12)
    asked = []

    def averaged(rows):
        asked.append(len(rows))
        sure = torch.tensor([0.0, 3.0, 0.0] if len(asked) == 1 else [1.0, 0.0, 0.0])  # the first draw misleads
        return None, sure.expand(len(rows), -1)

    monkeypatch.setattr(trained, "averaged", averaged)
    assert trained.error(x, torch.zeros(4, dtype=torch.int64)) == (0.0 if draws > 1 else 100.0)
    assert asked == [4] * draws


def test_every_epoch_has_an_order_of_its_own(monkeypatch):
    seen = []
    monkeypatch.setattr(compression.Learner, "step", lambda self, x, y: seen.extend(y.tolist()))
    settings = dataclasses.replace(SETTINGS, epochs=2, batch_size=10)
    list(compression.train("deterministic", torch.rand(35, 16), torch.arange(35), 35, settings, 0))
    first, second = seen[:30], seen[30:]
    assert len(set(first)) == len(set(second)) == 30
    assert first != second
    assert first != sorted(first)
