import math

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from dim.errors import UserError
from dim.models import Autoencoder
from dim.models.autoencoder import kl_to_standard_normal, squared_error


def test_kl_is_the_closed_form():
    mean, log_variance = torch.randn(6, 4, dtype=torch.float64), torch.randn(6, 4, dtype=torch.float64)
    expected = kl_divergence(Normal(mean, (0.5 * log_variance).exp()), Normal(0.0, 1.0)).sum(1).mean()
    torch.testing.assert_close(kl_to_standard_normal(mean, log_variance), expected)


def test_kl_of_half_precision_is_taken_in_float32():
    mean, log_variance = (0.02 * torch.randn(64, 64).to(torch.bfloat16) for _ in range(2))
    with torch.autocast("cpu", torch.bfloat16):
        found = kl_to_standard_normal(mean, log_variance)
    assert found.dtype == torch.float32
    exact = kl_to_standard_normal(mean.double(), log_variance.double())
    torch.testing.assert_close(found.double(), exact, rtol=1e-4, atol=0)


def test_squared_error_is_summed_over_the_image():
    images = torch.zeros(2, 3, 4, 4)
    assert float(squared_error(torch.full_like(images, 0.5), images)) == pytest.approx(0.25 * 48)


def test_elbo_of_a_linear_gaussian_decoder_bounds_the_evidence():
    """With x = z + noise of variance 1/2 the loss is -ELBO up to its constant, least at the true posterior."""
    x = torch.tensor([[0.7]], dtype=torch.float64)

    def loss(mean, variance, draws=400_000):
        noise = torch.randn(draws, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        mean, variance = torch.tensor([[mean]]).double(), torch.tensor([[variance]]).double()
        code = mean + variance.sqrt() * noise
        return float(squared_error(code, x.expand_as(code)) + kl_to_standard_normal(mean, variance.log()))

    # p(x) = N(0, 3/2); the posterior is N(2x/3, 1/3); squared error is -log N(x; z, 1/2) - log(pi)/2.
    evidence = Normal(0.0, 1.5**0.5).log_prob(x).item() + 0.5 * torch.log(torch.tensor(torch.pi)).item()
    best = loss(2 * 0.7 / 3, 1 / 3)
    assert best == pytest.approx(-evidence, abs=5e-3)
    assert loss(0.7, 1 / 3) > best
    assert loss(2 * 0.7 / 3, 0.8) > best


def test_every_part_is_trained_by_what_it_should_feel(batch, felt):
    deterministic = Autoencoder(code_size=16)
    assert felt(deterministic, batch, ["reconstruction"]) == {"encoder", "decoder"}
    vae = Autoencoder(kl_weight=1.0, code_size=16)
    assert felt(vae, batch, ["kl"]) == {"encoder", "log_variance"}
    assert felt(vae, batch, ["reconstruction"]) == {"encoder", "log_variance", "decoder"}


def test_the_decoder_sees_codes_as_far_from_their_mean_as_the_variance_says(batch, monkeypatch):
    model = Autoencoder(kl_weight=1.0, code_size=16)
    torch.nn.init.zeros_(model.log_variance.weight)
    torch.nn.init.constant_(model.log_variance.bias, math.log(4))
    seen = []
    monkeypatch.setattr(model.decoder, "forward", lambda code: seen.append(code) or torch.zeros_like(batch.images))
    model.reseed(0, 0)
    model.losses(batch)
    model.reseed(0, 0)
    noise = model.prior_samples("gaussian", len(batch.images))
    torch.testing.assert_close(seen, [model.encoder(batch.images)["y"] + 2 * noise])


def test_losses_are_their_definitions(batch):
    model = Autoencoder(kl_weight=0.7, code_size=16).double()
    batch = batch._replace(images=batch.images.double())
    model.reseed(0, 0)
    losses = model.losses(batch).losses
    model.reseed(0, 0)
    noise = model.prior_samples("gaussian", len(batch.images))
    outputs = model.encoder(batch.images)
    deviation = (0.5 * model.log_variance(outputs["fc"])).exp()
    difference = model.decoder(outputs["y"] + deviation * noise) - batch.images
    torch.testing.assert_close(losses["reconstruction"], difference.square().sum() / len(batch.images))
    posterior = Normal(outputs["y"], deviation)
    torch.testing.assert_close(losses["kl"], 0.7 * kl_divergence(posterior, Normal(0.0, 1.0)).sum(1).mean())


def test_beta_weighs_the_kl_alone(batch):
    values = {}
    for beta in (1.0, 0.5):
        torch.manual_seed(0)
        model = Autoencoder(kl_weight=beta, code_size=16)
        model.reseed(0, 0)
        values[beta] = model.losses(batch).losses
    torch.testing.assert_close(values[0.5]["kl"], 0.5 * values[1.0]["kl"])
    torch.testing.assert_close(values[0.5]["reconstruction"], values[1.0]["reconstruction"])
    with pytest.raises(UserError, match="kl_weight is -1"):
        Autoencoder(kl_weight=-1.0)


def test_pictures_are_images(batch):
    for model in (Autoencoder(code_size=16), Autoencoder(kl_weight=1.0, code_size=16)):
        grids = model.eval().pictures(batch.images[:4])
        assert all(grid.shape == (4, 3, 32, 32) and grid.abs().max() <= 1 for grid in grids.values())
        assert ("samples" in grids) == bool(model.hparams["kl_weight"])
