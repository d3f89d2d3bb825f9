"""Adversarial pieces shared by prior matching and the adversarial baselines: who pushes what, in which direction."""

from collections.abc import Callable
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import normalize, softplus

from dim import distributed
from dim.objectives import Objective, chi2, js, jsd, smile

Prior = Literal["uniform", "gaussian", "ball", "sphere"]


def sample_prior(prior: Prior, rows: int, code_size: int, generator: torch.Generator) -> Tensor:
    """`rows` samples of the prior, (rows, code_size), on the generator's device.

    uniform: the cube [0, 1]^Y (the paper's); gaussian: N(0, I); ball, sphere: uniform in or on the unit ball.
    """
    shape = (rows, code_size)
    if prior == "uniform":
        return torch.rand(shape, generator=generator, device=generator.device)
    gaussian = torch.randn(shape, generator=generator, device=generator.device)
    if prior == "gaussian":
        return gaussian
    sphere = normalize(gaussian)
    if prior == "sphere":
        return sphere
    if prior == "ball":
        radius = torch.rand((rows, 1), generator=generator, device=generator.device) ** (1 / code_size)
        return sphere * radius
    raise ValueError(f"unknown prior {prior!r}: one of {', '.join(get_args(Prior))}")


def to_prior_domain(prior: Prior, y: Tensor) -> Tensor:
    """The linear code mapped to where the prior lives, in float32 at least; for the discriminator only."""
    # Half precision's sigmoid is 1 from 6.3 on, without a gradient that would bring a code back.
    y = y.to(torch.promote_types(y.dtype, torch.float32))
    if prior == "uniform":
        return y.sigmoid()
    if prior == "sphere":
        return normalize(y)
    return y


def frozen(module: nn.Module) -> Callable[..., Any]:
    """`module` as a function through which gradients reach its input but not its parameters."""
    state = {name: tensor.detach() for name, tensor in module.state_dict(keep_vars=True).items()}
    return lambda *inputs: functional_call(module, state, inputs)


def _between(objective: Objective, real: Tensor, fake: Tensor) -> Tensor:
    # One row holds the samples of all processes: scores are few, and infoNCE's classes must not be split.
    scores = distributed.gather(real)[None], distributed.gather(fake)[None]
    # There is nothing for a baseline to depend on here: a = 1.
    return objective(*scores, real.new_zeros(1, 1) if objective.takes_baseline else None)


def discriminator_loss(objective: Objective, real: Tensor, fake: Tensor) -> Tensor:
    """What the discriminator minimises: minus the objective between scores (N,) of prior samples and of codes.

    With JSD this is binary cross-entropy with prior samples as real.
    """
    return -_between(objective, real, fake)


def fooling_loss(scores: Tensor) -> Tensor:
    """mean sp(-D), in float32 at least: low where the discriminator takes the samples for real."""
    return softplus(-scores.to(torch.promote_types(scores.dtype, torch.float32))).mean()


def generator_loss(objective: Objective, real: Tensor, fake: Tensor) -> Tensor:
    """What the player who makes `fake` minimises: it lowers the discriminator's objective.

    With JSD, and with objectives that are trained as JSD, in the non-saturating form of the paper, sp(-D(fake)), which
    pushes in the same direction.
    """
    if objective in (jsd, js, smile):
        return fooling_loss(fake)
    if objective is chi2:
        # Below -2, where no ratio of densities is (T = 2 (r - 1)), its term for samples rises again.
        fake = fake.clamp(min=-2)
    return _between(objective, real, fake)


def penalised_scores(discriminator: Callable[..., Tensor], *inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Scores (N,) of real samples, and the gradient penalty: the mean over rows of |grad D|^2 there (R1).

    `inputs` are one sample or several whose rows belong together; no gradient reaches them. One forward pass serves
    both results.
    """
    # Validation runs in inference mode, whose tensors have no gradients: hence the copies.
    with torch.inference_mode(False), torch.enable_grad():
        inputs = tuple(sample.detach().clone().requires_grad_() for sample in inputs)
        scores = discriminator(*inputs)
        gradients = torch.autograd.grad(scores.sum(), inputs, create_graph=True)
        penalty = torch.stack([gradient.flatten(1).square().sum(1) for gradient in gradients]).sum(0).mean()
    return scores, penalty


def accuracy(real: Tensor, fake: Tensor) -> Tensor:
    """The discriminator's accuracy: real scores above zero, fake ones below."""
    return ((real > 0).float().mean() + (fake <= 0).float().mean()) / 2


def match_prior(
    discriminator: nn.Module, objective: Objective, prior: Prior, real: Tensor, y: Tensor, penalty: float
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Both players of prior matching: losses `prior` (felt by y alone) and `discriminator`, and its accuracy.

    Args:
        real: samples of the prior, (N, Y).
        y: linear codes, (N, Y).
        penalty: weight of the gradient penalty on the prior's samples.
    """
    fake = to_prior_domain(prior, y)
    real_scores, slope = penalised_scores(discriminator, real)
    fake_scores = discriminator(fake.detach())
    losses = {
        "prior": generator_loss(objective, real_scores.detach(), frozen(discriminator)(fake)),
        "discriminator": discriminator_loss(objective, real_scores, fake_scores) + penalty * slope,
    }
    return losses, {"discriminator_accuracy": accuracy(real_scores, fake_scores)}
