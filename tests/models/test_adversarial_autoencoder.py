import pytest
import torch
from torch.nn.functional import logsigmoid

from dim.models import AdversarialAutoencoder


def test_every_part_is_trained_by_what_it_should_feel(batch, felt):
    model = AdversarialAutoencoder(code_size=16)
    assert set(model.losses(batch).losses) == {"reconstruction", "prior", "discriminator"}
    assert felt(model, batch, ["reconstruction"]) == {"encoder", "decoder"}
    assert felt(model, batch, ["prior"]) == {"encoder"}
    assert felt(model, batch, ["discriminator"]) == {"discriminator"}


def test_the_encoder_s_step_raises_the_discriminator_s_loss(batch):
    model = AdversarialAutoencoder(code_size=16, gradient_penalty=0.0)

    def losses():
        model.reseed(0, 0)
        return model.losses(batch).losses

    optimiser = torch.optim.Adam(model.discriminator.parameters(), 1e-2)
    for _ in range(20):
        optimiser.zero_grad()
        losses()["discriminator"].backward()
        optimiser.step()
    before = losses()
    model.zero_grad()
    before["prior"].backward()
    with torch.no_grad():
        norm = sum(p.grad.square().sum() for p in model.encoder.parameters() if p.grad is not None).sqrt()
        for parameter in model.encoder.parameters():
            if parameter.grad is not None:
                parameter.sub_(parameter.grad, alpha=1e-2 / float(norm))
    after = losses()
    assert after["discriminator"].item() > before["discriminator"].item()
    assert after["prior"].item() < before["prior"].item()


@pytest.mark.parametrize(("prior", "mapped"), [("gaussian", lambda y: y), ("uniform", torch.sigmoid)])
def test_losses_are_their_definitions(prior, mapped, batch):
    model = AdversarialAutoencoder(code_size=16, prior=prior, adversarial_weight=3.0, gradient_penalty=0.0).double()
    batch = batch._replace(images=batch.images.double())
    model.reseed(0, 0)
    losses = model.losses(batch).losses
    model.reseed(0, 0)
    real = model.prior_samples(prior, len(batch.images))
    codes = mapped(model.encoder(batch.images)["y"])
    scores, fake = model.discriminator(real), model.discriminator(codes)
    difference = model.decoder(codes) - batch.images
    torch.testing.assert_close(losses["reconstruction"], difference.square().sum() / len(batch.images))
    torch.testing.assert_close(losses["prior"], -3 * logsigmoid(fake).mean())
    torch.testing.assert_close(losses["discriminator"], -logsigmoid(scores).mean() - logsigmoid(-fake).mean())


def test_the_adversarial_weight_scales_the_encoder_s_term_alone(batch):
    values = {}
    for weight in (1.0, 3.0):
        torch.manual_seed(0)
        model = AdversarialAutoencoder(code_size=16, adversarial_weight=weight)
        model.reseed(0, 0)
        values[weight] = model.losses(batch).losses
    torch.testing.assert_close(values[3.0]["prior"], 3 * values[1.0]["prior"])
    for other in ("reconstruction", "discriminator"):
        torch.testing.assert_close(values[3.0][other], values[1.0][other])


@pytest.mark.parametrize(
    ("prior", "mapped"),
    [("gaussian", lambda y: y), ("uniform", torch.sigmoid), ("sphere", torch.nn.functional.normalize)],
)
def test_the_decoder_learns_on_codes_where_the_prior_lives(prior, mapped, batch, monkeypatch):
    model = AdversarialAutoencoder(code_size=16, prior=prior)
    seen = []
    monkeypatch.setattr(model.decoder, "forward", lambda code: seen.append(code) or torch.zeros_like(batch.images))
    model.losses(batch)
    torch.testing.assert_close(seen, [mapped(model.encoder(batch.images)["y"])])


@pytest.mark.parametrize("prior", ["gaussian", "uniform", "sphere"])
def test_pictures_decode_codes_and_samples_of_the_prior(batch, prior):
    grids = AdversarialAutoencoder(code_size=16, prior=prior).eval().pictures(batch.images[:4])
    assert set(grids) == {"images", "reconstructions", "samples"}
    assert all(grid.shape == (4, 3, 32, 32) for grid in grids.values())
