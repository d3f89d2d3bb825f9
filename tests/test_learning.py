"""Short real training: every critic learns with every objective, and codes move towards their prior."""

import pytest
import torch
from scipy.stats import ks_2samp

from dim.contrast import contrast
from dim.data.loader import Batch, DeviceLoader, normalise
from dim.data.sources import load_dataset
from dim.models import DeepInfoMax
from dim.models.deep_infomax import LogBaseline
from dim.networks.critics import GlobalConcatCritic, GlobalDotCritic, LocalConcatCritic, LocalDotCritic
from dim.networks.encoders import build_encoder
from dim.objectives import OBJECTIVES

CRITICS = [GlobalConcatCritic, GlobalDotCritic, LocalConcatCritic, LocalDotCritic]
BATCH, TRAINING = 32, 1280


@pytest.fixture(scope="module")
def outputs():
    """Outputs of a random encoder for training and test digits."""
    dataset = load_dataset("digits")
    torch.manual_seed(0)
    encoder = build_encoder("conv32", 16)
    with torch.no_grad():
        splits = dataset.train.images[:TRAINING], dataset.test.images[:320]
        found = [encoder(normalise(images)) for images in splits]
    # Standardised codes, as a trained encoder has them: random ones hardly differ from image to image.
    for side in found:
        side["y"] = (side["y"] - side["y"].mean(0)) / side["y"].std(0)
    return found, encoder.shapes()


def pairs():
    """All pairs; in the quick suite every critic with the paper's objectives."""
    for cls in CRITICS:
        for name in OBJECTIVES:
            marks = [] if name in ("dv", "jsd", "infonce") else [pytest.mark.slow]
            # Reverse KL's e^(-T) of one held-out positive outweighs all others: at the paper's rate the largest
            # critic, 2.6 million weights, fits its positives within an epoch and overshoots.
            rate = 1e-5 if (cls, name) == (GlobalDotCritic, "reverse_kl") else 1e-4
            yield pytest.param(cls, name, rate, marks=marks, id=f"{cls.__name__}-{name}")


@pytest.mark.parametrize(("cls", "name", "rate"), list(pairs()))
def test_every_critic_learns_with_every_objective(cls, name, rate, outputs):
    (train, test), shapes = outputs
    torch.manual_seed(0)
    critic, objective, baseline = cls(shapes, 16, 32), OBJECTIVES[name], LogBaseline(16)
    drawn = 2 if cls is LocalConcatCritic else None
    generator = torch.Generator().manual_seed(0)

    def value(side, rows):
        y = side["y"][rows]
        scores = contrast(critic, y, side[critic.source][rows], drawn, generator=generator)
        count = len(scores.positive) // len(y)
        extra = (baseline(y).repeat_interleave(count, 0),) if objective.takes_baseline else ()
        return objective(*scores, *extra)

    @torch.no_grad()
    def held_out():
        # With the statistics of the held-out batch, as in a training step: running ones lag behind.
        return torch.stack([value(test, rows) for rows in torch.arange(320).split(BATCH)]).mean()

    before = held_out()
    optimiser = torch.optim.Adam([*critic.parameters(), *baseline.parameters()], rate)
    for _ in range(5):
        for rows in torch.randperm(TRAINING).split(BATCH)[: TRAINING // BATCH]:
            optimiser.zero_grad()
            (-value(train, rows)).backward()
            torch.nn.utils.clip_grad_norm_(critic.parameters(), 1.0)
            optimiser.step()
    after = held_out()
    assert after.isfinite()
    assert after > before, (float(before), float(after))


@pytest.mark.parametrize("prior", ["uniform", "gaussian"])
def test_codes_move_towards_the_prior(prior):
    split = load_dataset("digits").train
    torch.manual_seed(0)
    model = DeepInfoMax(gamma=1.0, prior=prior, units=32, code_size=8)
    optimiser = torch.optim.Adam(model.parameters(), 1e-3, (0.5, 0.999))
    loader = DeviceLoader(split, 32, shuffle=True, drop_last=True)

    def distance():
        """Mean Kolmogorov-Smirnov statistic between a feature of the codes and of the prior."""
        model.eval()
        with torch.no_grad():
            y = model.encoder(normalise(split.images[:500]))["y"]
        model.train()
        codes = y.sigmoid() if prior == "uniform" else y
        sample = torch.rand(500, 8) if prior == "uniform" else torch.randn(500, 8)
        return sum(ks_2samp(codes[:, k].numpy(), sample[:, k].numpy()).statistic for k in range(8)) / 8

    step, start = 0, None
    for _ in range(2):
        for batch in loader:
            start = distance() if step == 10 else start
            model.reseed(0, step)
            optimiser.zero_grad()
            torch.stack(list(model.losses(batch).losses.values())).sum().backward()
            optimiser.step()
            step += 1
    assert distance() < 0.8 * start


def test_bfloat16_keeps_objectives_in_float32():
    model = DeepInfoMax(alpha=1.0, gamma=0.1, units=32, width=32, code_size=8)
    images = normalise(load_dataset("digits").train.images[:16])
    batch = Batch(images, torch.zeros(16, dtype=torch.int64), torch.arange(16))
    with torch.autocast("cpu", torch.bfloat16):
        step = model.losses(batch)
    assert {name: loss.dtype for name, loss in step.losses.items()} == dict.fromkeys(
        ("global", "local", "prior", "discriminator"), torch.float32
    )
    torch.stack(list(step.losses.values())).sum().backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)
