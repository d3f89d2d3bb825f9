import math

import pytest
import torch
from torch import nn

from dim import adversarial
from dim.networks.discriminators import CodeDiscriminator
from dim.objectives import OBJECTIVES, jsd


def samples(prior, rows=4000, size=3):
    return adversarial.sample_prior(prior, rows, size, torch.Generator().manual_seed(0))


def test_priors_have_their_moments_and_supports():
    uniform, gaussian, ball, sphere = (samples(prior) for prior in ("uniform", "gaussian", "ball", "sphere"))
    assert uniform.min() >= 0
    assert uniform.max() <= 1
    assert float(uniform.var()) == pytest.approx(1 / 12, rel=0.05)
    assert float(gaussian.var()) == pytest.approx(1, rel=0.05)
    torch.testing.assert_close(sphere.norm(dim=1), torch.ones(4000))
    # The radius of a uniform point in a ball of d dimensions has mean d / (d + 1).
    assert float(ball.norm(dim=1).mean()) == pytest.approx(3 / 4, rel=0.02)
    assert float(ball.norm(dim=1).max()) <= 1
    with pytest.raises(ValueError, match="unknown prior"):
        samples("cauchy")


def test_codes_are_mapped_where_the_prior_lives():
    y = torch.randn(10, 4) * 3
    assert torch.equal(adversarial.to_prior_domain("uniform", y), y.sigmoid())
    large = torch.full((1,), 8.0, dtype=torch.bfloat16, requires_grad=True)
    adversarial.to_prior_domain("uniform", large).sum().backward()
    assert large.grad.item() == pytest.approx(3.35e-4, rel=0.01)  # 0 in half precision: no way back from the edge
    assert adversarial.to_prior_domain("gaussian", y) is y
    assert adversarial.to_prior_domain("ball", y) is y
    torch.testing.assert_close(adversarial.to_prior_domain("sphere", y).norm(dim=1), torch.ones(10))


def test_jsd_losses_are_binary_cross_entropies():
    real, fake = torch.randn(9), torch.randn(9)
    bce = nn.functional.binary_cross_entropy_with_logits
    expected = bce(real, torch.ones(9)) + bce(fake, torch.zeros(9))
    torch.testing.assert_close(adversarial.discriminator_loss(jsd, real, fake), expected)
    for objective in ("jsd", "js", "smile"):  # all trained as JSD
        found = adversarial.generator_loss(OBJECTIVES[objective], real, fake)
        torch.testing.assert_close(found, bce(fake, torch.ones(9)))


def test_fooling_loss_of_half_precision_is_taken_in_float32():
    scores = torch.randn(500).to(torch.bfloat16)
    found = adversarial.fooling_loss(scores)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), nn.functional.softplus(-scores.double()).mean())


@pytest.mark.parametrize("objective", OBJECTIVES.values(), ids=OBJECTIVES)
def test_the_players_pull_fake_scores_in_opposite_directions(objective):
    real, fake = torch.randn(9), torch.linspace(-4, 4, 9).requires_grad_()
    up = torch.autograd.grad(adversarial.generator_loss(objective, real, fake), fake)[0]
    down = torch.autograd.grad(adversarial.discriminator_loss(objective, real, fake), fake)[0]
    # chi2's scores are 2 (r - 1) for a ratio r: below -2 the discriminator comes back, and nobody is pushed further.
    inside = fake > -2 if objective.name == "chi2" else torch.ones(9, dtype=torch.bool)
    assert (up[inside] < 0).all()
    assert (down[inside] > 0).all()
    assert (up[~inside] == 0).all()


def test_frozen_passes_gradients_to_the_input_alone():
    discriminator = CodeDiscriminator(4, (8,))
    codes = torch.randn(5, 4, requires_grad=True)
    adversarial.frozen(discriminator)(codes).sum().backward()
    assert codes.grad.abs().sum() > 0
    assert all(p.grad is None for p in discriminator.parameters())
    torch.testing.assert_close(adversarial.frozen(discriminator)(codes), discriminator(codes))


def test_gradient_penalty_of_known_functions():
    x, z = torch.randn(50, 3), torch.randn(50, 2)
    weight = torch.tensor([1.0, -2.0, 3.0])
    assert float(adversarial.penalised_scores(lambda v: v @ weight, x)[1]) == pytest.approx(14)
    scores, quadratic = adversarial.penalised_scores(lambda a, b: a.square().sum(1) + 3 * b.sum(1), x, z)
    torch.testing.assert_close(scores, x.square().sum(1) + 3 * z.sum(1))
    assert float(quadratic) == pytest.approx(float(4 * x.square().sum(1).mean() + 18), rel=1e-5)


def test_gradient_penalty_trains_the_discriminator_also_in_inference_mode():
    discriminator = CodeDiscriminator(4, (8,))
    adversarial.penalised_scores(discriminator, torch.randn(6, 4))[1].backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in discriminator.parameters())
    with torch.inference_mode():
        assert math.isfinite(float(adversarial.penalised_scores(discriminator, torch.randn(6, 4))[1]))


@pytest.mark.parametrize(
    ("prior", "mapped"), [("uniform", torch.sigmoid), ("sphere", lambda y: y / y.norm(dim=1, keepdim=True))]
)
@pytest.mark.parametrize("objective", ["jsd", "dv"])
def test_prior_matching_is_its_definition_on_mapped_codes(prior, mapped, objective):
    discriminator, y = CodeDiscriminator(3, (8,)).double(), torch.randn(50, 3).double().mul(3).requires_grad_()
    real = samples(prior, 50).double()
    losses, metrics = adversarial.match_prior(discriminator, OBJECTIVES[objective], prior, real, y, 0.7)
    scores, fake = discriminator(real), discriminator(mapped(y))
    penalty = adversarial.penalised_scores(discriminator, real)[1]
    if objective == "jsd":
        value = nn.functional.logsigmoid(scores).mean() + nn.functional.logsigmoid(-fake).mean()
        torch.testing.assert_close(losses["prior"], -nn.functional.logsigmoid(fake).mean())
    else:
        value = scores.mean() - fake.exp().mean().log()
        torch.testing.assert_close(losses["prior"], value)
    torch.testing.assert_close(losses["discriminator"], -value + 0.7 * penalty)
    assert float(metrics["discriminator_accuracy"]) == float(adversarial.accuracy(scores, fake))
    losses["prior"].backward()
    assert all(parameter.grad is None for parameter in discriminator.parameters())
    assert y.grad.abs().sum() > 0


def test_accuracy_counts_both_sides():
    real, fake = torch.tensor([1.0, 1.0, -1.0, 2.0]), torch.tensor([-1.0, 3.0, -2.0, -1.0])
    assert float(adversarial.accuracy(real, fake)) == 0.75
