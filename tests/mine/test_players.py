import copy

import numpy as np
import pytest
import torch

from dim.mine import players
from dim.mine.mixtures import grid

SETTINGS = players.Settings(iterations=3, batch_size=20)
CPU = torch.device("cpu")


def real(seed=1):
    return grid().sample(SETTINGS.batch_size, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("scale", "factor"), [(10.0, None), (0.01, 1.0)])
def test_clipping_is_its_definition(scale, factor):
    gradients = [scale * torch.randn(3, 4), scale * torch.randn(5)]
    reference = [torch.randn(3, 4), torch.randn(5)]
    found = players.clipped(gradients, reference)
    flat, allowed = (
        np.concatenate([part.double().numpy().ravel() for part in side]) for side in (gradients, reference)
    )
    expected = min(np.linalg.norm(flat), np.linalg.norm(allowed)) * flat / np.linalg.norm(flat)
    np.testing.assert_allclose(np.concatenate([part.numpy().ravel() for part in found]), expected, rtol=1e-5)
    if factor:
        assert all(torch.equal(a, b) for a, b in zip(found, gradients, strict=True))


def test_clipping_nothing_is_nothing():
    zero = torch.zeros(3)
    assert torch.equal(players.clipped([zero], [torch.ones(3)])[0], zero)
    assert torch.equal(players.clipped([torch.ones(3)], [zero])[0], zero)


def test_samples_are_of_a_generator_at_rest():
    trained = players.Players(SETTINGS, False, 3, CPU)
    trained.step(real())
    statistics = copy.deepcopy(trained.generator.state_dict())
    many = trained.sample(50, seed=1)
    assert all(torch.equal(value, statistics[name]) for name, value in trained.generator.state_dict().items())
    # By running statistics, not by those of the samples.
    inputs, _ = trained.inputs(50, torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(many[:1], trained.generator.eval()(inputs[:1]))


def test_variants_share_weights_data_and_noise():
    plain, mine = players.Players(SETTINGS, False, 3, CPU), players.Players(SETTINGS, True, 3, CPU)
    for name in ("generator", "discriminator"):
        for a, b in zip(getattr(plain, name).parameters(), getattr(mine, name).parameters(), strict=True):
            assert torch.equal(a, b)
    plain.step(real())
    mine.step(real())
    # The discriminator moves first, on the same samples.
    for a, b in zip(plain.discriminator.parameters(), mine.discriminator.parameters(), strict=True):
        assert torch.equal(a, b)
    assert torch.equal(plain.draws.get_state(), mine.draws.get_state())


def test_mine_adds_the_clipped_gradient_that_raises_information():
    plain, mine = players.Players(SETTINGS, False, 3, CPU), players.Players(SETTINGS, True, 3, CPU)
    before = copy.deepcopy(mine.generator)
    plain.step(real())
    mine.step(real())
    inputs = torch.randn(SETTINGS.batch_size, SETTINGS.input_size, generator=torch.Generator().manual_seed(3))
    code = inputs[:, SETTINGS.noise_size :]
    fake = before(inputs)
    # Each code with its own sample, then with the next one.
    network = mine.critic.network
    information = network(fake, code).mean() - network(fake.roll(-1, 0), code).exp().mean().log()
    ascent = torch.autograd.grad(SETTINGS.beta * information, list(before.parameters()))
    reference = [parameter.grad for parameter in plain.generator.parameters()]
    expected = players.clipped(ascent, reference)
    for parameter, gan, extra in zip(mine.generator.parameters(), reference, expected, strict=True):
        # Adam descends: what is added is minus the gradient of the information.
        torch.testing.assert_close(parameter.grad, gan - extra, rtol=1e-3, atol=1e-6)


def test_players_push_in_opposite_directions():
    player = players.Players(SETTINGS, False, 0, CPU)
    samples, noise = real(), player.inputs(SETTINGS.batch_size, torch.Generator().manual_seed(5))[0]

    def gap():
        with torch.no_grad():
            return float(player.discriminator(samples).mean() - player.discriminator(player.generator(noise)).mean())

    before = gap()
    player.optimisers[0].param_groups[0]["lr"] = 0.0
    for _ in range(10):
        player.step(samples)
    learnt = gap()
    assert learnt > before  # the discriminator alone tells them apart
    player.optimisers[0].param_groups[0]["lr"] = 1e-3
    player.optimisers[1].param_groups[0]["lr"] = 0.0
    for _ in range(10):
        player.step(samples)
    assert gap() < learnt  # the generator alone closes the gap


def test_training_is_reproducible_and_leaves_the_global_generator_alone():
    state, seen = torch.get_rng_state(), []
    first = players.train(grid(), SETTINGS, True, 0, CPU, 1, lambda *entry: seen.append(entry))
    second = players.train(grid(), SETTINGS, True, 0, CPU, 3, lambda *entry: entry[1].sample(5, 0))
    assert torch.equal(first.sample(7, 9), second.sample(7, 9))
    assert [entry[0] for entry in seen] == [1, 2, 3]
    assert all(isinstance(entry[2], float) for entry in seen)
    assert torch.equal(state, torch.get_rng_state())
    plain = players.train(grid(), SETTINGS, False, 0, CPU, 3, lambda *entry: seen.append(entry))
    assert plain.critic is None
    assert seen[-1][2] is None


@pytest.mark.parametrize("mine", [False, True])
def test_every_player_s_learning_rate_falls_linearly_to_zero(mine):
    rates = []

    def watch(iteration, trained, information):
        rates.append([group["lr"] for optimiser in trained.optimisers for group in optimiser.param_groups])

    players.train(grid(), SETTINGS, mine, 0, CPU, 1, watch)
    expected = SETTINGS.learning_rate * np.array([1, 2 / 3, 1 / 3])
    assert len(rates[0]) == 2 + mine
    np.testing.assert_allclose(np.array(rates), np.repeat(expected[:, None], 2 + mine, 1))
