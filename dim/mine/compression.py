"""The information bottleneck, min cross-entropy + beta I(X; Z) (MINE, section 5.3): networks and training."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, softplus
from torch.optim.swa_utils import AveragedModel

from dim.adversarial import frozen
from dim.mine import training
from dim.mine.networks import ConcatNetwork
from dim.objectives import dv

Variant = Literal["deterministic", "vib", "gaussian", "additive", "propagated"]
CODE = 256
NEGATIVES = 10
"""Other images that each held-out code is scored with: more of them make their mean more exact at little cost."""


Tensors = tuple[Tensor, ...] | list[Tensor]


@dataclass(frozen=True)
class Settings:
    """What all variants share.

    Widths and beta are MINE's. MINE does not publish the rest of its training; batch, momentum, decay, average and
    draws are those of VIB (Alemi et al. 2017), with which it compares. The noises are chosen.

    Attributes:
        learning_rate: of Adam; the model's falls exponentially to `final` of it over the epochs (VIB: 0.97 every 2 of
            200), the statistics network's stays.
        average: of the exponential moving average of the weights that is tested, with a warm-up.
        draws: codes over which a test image's class probabilities are averaged.
        noise: standard deviation of the noise that `additive` adds to every layer's output.
        noise_size: size of the noise N(0, I) that `propagated` takes beside the image.
    """

    epochs: int
    beta: float = 1e-3
    batch_size: int = 100
    learning_rate: float = 1e-3
    momentum: float = 0.5
    final: float = 0.97**100
    average: float = 0.999
    draws: int = 12
    noise: float = 0.3
    noise_size: int = 64


class Code(NamedTuple):
    """Codes (N, CODE) and, of an encoder N(mean, scale^2), its parameters."""

    z: Tensor
    mean: Tensor | None = None
    scale: Tensor | None = None


class Encoder(nn.Module):
    """x -> 1024 -> 1024 -> 256 with ReLU, and where the variant's noise enters.

    deterministic: nowhere; vib, gaussian: z ~ N(mean(x), scale(x)^2), scale = softplus(. - 5) as in VIB; additive:
    N(0, noise^2) on every layer's output; propagated: N(0, I) beside x, through all layers.
    """

    def __init__(self, x_size: int, variant: Variant, settings: Settings) -> None:
        super().__init__()
        self.gaussian = variant in ("vib", "gaussian")
        self.additive = settings.noise if variant == "additive" else 0.0
        self.propagated = settings.noise_size if variant == "propagated" else 0
        self.hidden = nn.ModuleList([nn.Linear(x_size + self.propagated, 1024), nn.Linear(1024, 1024)])
        self.last = nn.Linear(1024, 2 * CODE if self.gaussian else CODE)

    def _noisy(self, h: Tensor) -> Tensor:
        return h + self.additive * torch.randn_like(h) if self.additive else h

    def forward(self, x: Tensor) -> Code:
        """Draws a code for each row of x (N, x_size)."""
        h = torch.cat([x, torch.randn(len(x), self.propagated, device=x.device)], 1) if self.propagated else x
        for layer in self.hidden:
            h = self._noisy(layer(h)).relu()
        z = self._noisy(self.last(h))
        if not self.gaussian:
            return Code(z)
        mean, raw = z.chunk(2, 1)
        scale = softplus(raw - 5)
        return Code(mean + scale * torch.randn_like(mean), mean, scale)


class Model(nn.Module):
    """Encoder and a linear classifier of its codes."""

    def __init__(self, x_size: int, classes: int, variant: Variant, settings: Settings) -> None:
        super().__init__()
        self.encoder = Encoder(x_size, variant, settings)
        self.classifier = nn.Linear(CODE, classes)

    def forward(self, x: Tensor) -> tuple[Code, Tensor]:
        """Codes and logits (N, classes)."""
        code = self.encoder(x)
        return code, self.classifier(code.z)


class Noise(nn.Module):
    """Adds N(0, sigma^2) while training."""

    def __init__(self, sigma: float) -> None:
        super().__init__()
        self.sigma = sigma

    def forward(self, x: Tensor) -> Tensor:
        """x with noise."""
        return x + self.sigma * torch.randn_like(x) if self.training else x


class NoisyNetwork(ConcatNetwork):
    """T(x, z): [x, z] -> 512 -> 512 -> 1 with ELU, noise of 0.3 on the input and 0.5 on hidden layers (recalled)."""

    def __init__(self, x_size: int) -> None:
        super().__init__(Noise(0.3), x_size, CODE, (512,))
        self.noise = Noise(0.3)
        hidden = (nn.ELU(), Noise(0.5), nn.Linear(512, 512), nn.ELU(), Noise(0.5))
        self.rest = nn.Sequential(*hidden, nn.Linear(512, 1))

    def queries(self, z: Tensor) -> Tensor:
        return super().queries(self.noise(z))


def gaussian_kl(mean: Tensor, scale: Tensor) -> Tensor:
    """KL(N(mean, scale^2) || N(0, I)) in nats, (N,): on average over x at least I(X; Z), VIB's bound."""
    return 0.5 * (mean.square() + scale.square() - 1 - 2 * scale.log()).sum(1)


def penalty(variant: Variant, code: Code, x: Tensor, critic: training.Critic) -> Tensor:
    """What stands for I(X; Z) in the variant's loss, nats: nothing, VIB's bound or MINE's estimate."""
    if variant == "deterministic":
        return code.z.new_zeros(())
    if variant == "vib":
        assert code.mean is not None
        assert code.scale is not None
        return gaussian_kl(code.mean, code.scale).mean()
    scores = frozen(critic)(x, code.z, 1)
    return dv(scores.positive, scores.negative)


class Learner:
    """Trains a variant and, on its codes, a statistics network; of variants without MINE it only watches.

    Attributes:
        averaged: the moving average of the model, which is tested.
    """

    def __init__(
        self, variant: Variant, x_size: int, classes: int, settings: Settings, steps: int, device: torch.device
    ) -> None:
        self.variant, self.settings = variant, settings
        self.model = Model(x_size, classes, variant, settings).to(device)
        self.critic = training.Critic(NoisyNetwork(x_size), None, nn.Identity(), nn.Identity()).to(device)
        self.averaged = AveragedModel(self.model, multi_avg_fn=self._average)
        self.mean = training.MovingAverage()
        betas = (settings.momentum, 0.999)
        self.optimiser = torch.optim.Adam(self.model.parameters(), settings.learning_rate, betas, fused=True)
        self.watcher = torch.optim.Adam(self.critic.parameters(), settings.learning_rate, betas, fused=True)
        self.schedule = torch.optim.lr_scheduler.ExponentialLR(self.optimiser, settings.final ** (1 / steps))

    def _average(self, averages: Tensors, weights: Tensors, _: Tensor | int) -> None:
        # The warm-up forgets the first, random weights within a short training as well. PyTorch's own count lies on the
        # device, where it would have to be waited for.
        count = self.schedule.last_epoch - 1
        kept = min(self.settings.average, (1 + count) / (10 + count))
        torch._foreach_lerp_(averages, weights, 1 - kept)

    def step(self, x: Tensor, y: Tensor) -> None:
        """One step of the model and one of the statistics network on x (N, x_size) and classes y (N,)."""
        code, logits = self.model(x)
        extra = penalty(self.variant, code, x, self.critic)
        self.optimiser.zero_grad()
        (cross_entropy(logits, y) + self.settings.beta * extra).backward()
        self.optimiser.step()
        self.schedule.step()
        self.averaged.update_parameters(self.model)
        self.watcher.zero_grad()
        training.loss(dv, self.critic(x, code.z.detach(), 1), self.mean).backward()
        self.watcher.step()

    @torch.no_grad()
    def plane(self, x: Tensor, y: Tensor) -> dict[str, float]:
        """Where the present encoder stands on held-out pairs in random order, in nats.

        Returns:
            x_z: DV estimate of I(X; Z); z_y: I(Z; Y) from below, H(Y) less the cross-entropy; kl: VIB's bound of
            I(X; Z) from above, where the encoder is Gaussian.
        """
        code, logits = self.model(x)
        scores = training.held_out(self.critic, x, code.z, NEGATIVES)
        entropy = float(torch.special.entr(y.bincount().double() / len(y)).sum())
        found = {"x_z": float(scores.estimate(dv)), "z_y": entropy - float(cross_entropy(logits, y))}
        if code.mean is not None and code.scale is not None:
            found["kl"] = float(gaussian_kl(code.mean, code.scale).mean())
        return found

    @torch.no_grad()
    def error(self, x: Tensor, y: Tensor) -> float:
        """Error in percent of the averaged weights; class probabilities are averaged over draws of the code."""
        draws = 1 if self.variant == "deterministic" else self.settings.draws
        wrong = 0
        for rows, classes in zip(x.split(2000), y.split(2000), strict=True):
            probability = sum(self.averaged(rows)[1].softmax(1) for _ in range(draws))
            assert isinstance(probability, Tensor)
            wrong += int((probability.argmax(1) != classes).sum())
        return 100 * wrong / len(y)


def train(
    variant: Variant, x: Tensor, y: Tensor, classes: int, settings: Settings, seed: int
) -> Iterator[tuple[float, Learner]]:
    """Yields (epochs done, learner) before the first epoch and several times in each; x is (n, x_size) in [-1, 1].

    Draws from torch's global generator, which it seeds: the caller puts it into `fork_rng`.
    """
    torch.manual_seed(seed)
    order = torch.Generator().manual_seed(seed)
    batch = min(settings.batch_size, len(x))
    per_epoch = len(x) // batch
    learner = Learner(variant, x.shape[1], classes, settings, settings.epochs * per_epoch, x.device)
    yield 0.0, learner
    for epoch in range(settings.epochs):
        rows = torch.randperm(len(x), generator=order).to(x.device)[: per_epoch * batch].view(per_epoch, batch)
        for step, row in enumerate(rows, 1):
            learner.step(x[row], y[row])
            if step % math.ceil(per_epoch / 4) == 0 or step == per_epoch:
                yield epoch + step / per_epoch, learner
