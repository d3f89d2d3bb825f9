"""A GAN in the plane, alone or with mutual information between samples and codes (MINE, section 5.1)."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dim import adversarial
from dim.mine import training
from dim.mine.mixtures import Target
from dim.mine.networks import statistics_network
from dim.networks.modes import evaluating
from dim.objectives import dv, jsd


@dataclass(frozen=True)
class Settings:
    """What both variants share.

    Widths, batch, iterations and beta are the paper's as far as recalled. The learning rate (the paper's: 1e-4,
    recalled), its linear decay to zero, the sizes of noise and code and Adam's momentum were tuned for the plain GAN
    (how: `dim.mine.experiments.gan`) and serve both variants; so was that the discriminator's ReLU is leaky too.

    Attributes:
        learning_rate: at the start, for all players.
        beta: weight of I(G([noise, code]); code) in the generator's objective.
        noise_size: size of the generator's noise, N(0, I).
        code_size: size of its code, N(0, I); the plain GAN takes it as more noise.
        momentum: Adam's beta_1, for all players.
    """

    iterations: int = 5000
    batch_size: int = 100
    learning_rate: float = 1e-3
    beta: float = 1.0
    noise_size: int = 10
    code_size: int = 10
    momentum: float = 0.0
    slope: float = 0.2

    @property
    def input_size(self) -> int:
        """Size of the generator's input."""
        return self.noise_size + self.code_size


def make_generator(settings: Settings) -> nn.Sequential:
    """[noise, code] -> 500 -> 500 -> 2, batch normalisation and leaky ReLU between."""
    layers: list[nn.Module] = []
    for size in (settings.input_size, 500):
        layers += [nn.Linear(size, 500), nn.BatchNorm1d(500), nn.LeakyReLU(settings.slope)]
    return nn.Sequential(*layers, nn.Linear(500, 2))


def make_discriminator(settings: Settings) -> nn.Sequential:
    """2 -> 400 -> 400 -> 400 -> 1, leaky ReLU between."""
    layers: list[nn.Module] = []
    for size in (2, 400, 400):
        layers += [nn.Linear(size, 400), nn.LeakyReLU(settings.slope)]
    return nn.Sequential(*layers, nn.Linear(400, 1), nn.Flatten(0))


def make_critic(settings: Settings) -> training.Critic:
    """The statistics network between samples and codes: [2, code] -> 400 -> 400 -> 400 -> 1, ReLU between."""
    network = statistics_network("concat", (2,), settings.code_size, (400, 400, 400), 0)
    return training.Critic(network, None, nn.Identity(), nn.Identity())


def clipped(gradients: Iterable[Tensor], reference: Iterable[Tensor]) -> tuple[Tensor, ...]:
    """`gradients` scaled down, all by one factor, to at most the norm of `reference` (adaptive clipping, 8.1.1).

    The norms are those of all parameters' gradients together: min(|g|, |r|) g / |g|.
    """
    gradients = tuple(gradients)
    norm, allowed = (torch.stack([part.norm() for part in side]).norm() for side in (gradients, tuple(reference)))
    scale = (allowed / norm.clamp(min=torch.finfo(norm.dtype).tiny)).clamp(max=1)
    return tuple(scale * part for part in gradients)


class Players:
    """Generator, discriminator and, with MINE, the statistics network, with an optimiser each.

    Whatever is drawn before the statistics network's weights, and all data, noise and codes, are the same for both
    variants of a seed.
    """

    def __init__(self, settings: Settings, mine: bool, seed: int, device: torch.device) -> None:
        self.settings, self.device = settings, device
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            self.generator = make_generator(settings).to(device)
            self.discriminator = make_discriminator(settings).to(device)
            self.critic = make_critic(settings).to(device) if mine else None
        self.average = training.MovingAverage()
        self.draws = torch.Generator().manual_seed(seed)
        networks = (self.generator, self.discriminator, *([self.critic] if self.critic else []))
        self.optimisers = [
            torch.optim.Adam(network.parameters(), settings.learning_rate, (settings.momentum, 0.999), fused=True)
            for network in networks
        ]

    def set_learning_rate(self, rate: float) -> None:
        """Of every player's next step."""
        for optimiser in self.optimisers:
            for group in optimiser.param_groups:
                group["lr"] = rate

    def inputs(self, rows: int, draws: torch.Generator) -> tuple[Tensor, Tensor]:
        """The generator's input (rows, noise + code) and the code, its last part."""
        inputs = torch.randn(rows, self.settings.input_size, generator=draws).to(self.device)
        return inputs, inputs[:, self.settings.noise_size :]

    def step(self, real: Tensor) -> Tensor | None:
        """One step of every player on real samples (N, 2); the mutual information (nats, DV) if it is in play."""
        inputs, code = self.inputs(len(real), self.draws)
        fake = self.generator(inputs)
        scores = self.discriminator(torch.cat([real, fake.detach()])).split(len(real))
        self._update(1, adversarial.discriminator_loss(jsd, *scores))
        information = self._learn_critic(fake.detach(), code) if self.critic else None
        loss = adversarial.generator_loss(jsd, scores[0].detach(), adversarial.frozen(self.discriminator)(fake))
        parameters = list(self.generator.parameters())
        gradients = torch.autograd.grad(loss, parameters, retain_graph=self.critic is not None)
        if self.critic:
            pairs = adversarial.frozen(self.critic)(fake, code, 1)
            loss = -self.settings.beta * dv(pairs.positive, pairs.negative)
            extra = clipped(torch.autograd.grad(loss, parameters), gradients)
            gradients = tuple(a + b for a, b in zip(gradients, extra, strict=True))
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        self.optimisers[0].step()
        return information

    def _learn_critic(self, fake: Tensor, code: Tensor) -> Tensor:
        assert self.critic is not None
        scores = self.critic(fake, code, 1)
        self._update(2, training.loss(dv, scores, self.average))
        return scores.detached().estimate(dv)

    def _update(self, player: int, loss: Tensor) -> None:
        self.optimisers[player].zero_grad()
        loss.backward()
        self.optimisers[player].step()

    def sample(self, rows: int, seed: int) -> Tensor:
        """`rows` generated samples (rows, 2) on the CPU, in evaluation mode, without touching the draws of training."""
        with evaluating(self.generator):
            return self.generator(self.inputs(rows, torch.Generator().manual_seed(seed))[0]).cpu()


def train(
    target: Target,
    settings: Settings,
    mine: bool,
    seed: int,
    device: torch.device,
    every: int,
    watch: Callable[[int, Players, float | None], None],
) -> Players:
    """Trains on fresh samples of `target`, the learning rate falling linearly to zero.

    `watch(iteration, players, information)` is called every so many steps.
    """
    players = Players(settings, mine, seed, device)
    for iteration in range(1, settings.iterations + 1):
        players.set_learning_rate(settings.learning_rate * (1 - (iteration - 1) / settings.iterations))
        information = players.step(target.sample(settings.batch_size, players.draws).to(device))
        if iteration % every == 0:
            watch(iteration, players, None if information is None else float(information))
    return players
