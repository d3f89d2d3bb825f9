import torch
from torch.nn.functional import logsigmoid

from dim.models import BiGAN


def test_every_part_is_trained_by_what_it_should_feel(batch, felt):
    model = BiGAN(code_size=16)
    assert set(model.losses(batch).losses) == {"encoder", "generator", "discriminator"}
    assert felt(model, batch, ["encoder"]) == {"encoder"}
    assert felt(model, batch, ["generator"]) == {"generator"}
    assert felt(model, batch, ["discriminator"]) == {"discriminator"}


def test_losses_are_their_definitions(batch):
    model = BiGAN(code_size=16, gradient_penalty=0.7).double()
    batch = batch._replace(images=batch.images.double())
    model.reseed(0, 0)
    losses = model.losses(batch).losses
    model.reseed(0, 0)
    z = model.prior_samples("gaussian", len(batch.images))
    pair = batch.images.clone().requires_grad_(), model.encoder(batch.images)["y"].detach().requires_grad_()
    real, fake = model.discriminator(*pair), model.discriminator(model.generator(z), z)
    slopes = torch.autograd.grad(real.sum(), pair, retain_graph=True)
    penalty = sum(slope.square().sum() for slope in slopes) / len(batch.images)
    torch.testing.assert_close(losses["encoder"], -logsigmoid(-real).mean())
    torch.testing.assert_close(losses["generator"], -logsigmoid(fake).mean())
    told_apart = -logsigmoid(real).mean() - logsigmoid(-fake).mean()
    torch.testing.assert_close(losses["discriminator"], told_apart + 0.7 * penalty)


def test_encoder_and_generator_push_against_the_discriminator(batch):
    model = BiGAN(code_size=16, gradient_penalty=0.0)

    def losses():
        model.reseed(0, 0)
        return model.losses(batch).losses

    optimiser = torch.optim.Adam(model.discriminator.parameters(), 1e-4)
    first = losses()["discriminator"].item()
    for _ in range(5):
        optimiser.zero_grad()
        losses()["discriminator"].backward()
        optimiser.step()
    trained = losses()
    assert trained["discriminator"].item() < first
    for player, network in (("encoder", model.encoder), ("generator", model.generator)):
        state = {name: value.clone() for name, value in network.state_dict().items()}
        model.zero_grad()
        losses()[player].backward()
        with torch.no_grad():
            norm = sum(p.grad.square().sum() for p in network.parameters() if p.grad is not None).sqrt()
            for parameter in network.parameters():
                if parameter.grad is not None:
                    parameter.sub_(parameter.grad, alpha=1e-2 / float(norm))
        after = losses()
        assert after["discriminator"].item() > trained["discriminator"].item(), player
        network.load_state_dict(state)


def test_pictures_are_images(batch):
    grids = BiGAN(code_size=16).eval().pictures(batch.images[:4])
    assert all(grid.shape == (4, 3, 32, 32) and grid.abs().max() <= 1 for grid in grids.values())
