"""The optimisers: Muon for matrices beside Adam, as one."""

import copy
import math

import pytest
import torch
from torch import nn

from dim.optimiser import build_optimiser

OPTIONS = {"learning_rate": 0.01, "betas": (0.5, 0.999), "weight_decay": 0.1}


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 6))


def steps(model, optimisers, count, start=0):
    for seed in range(start, start + count):
        images = torch.randn(8, 3, 4, 4, generator=torch.Generator().manual_seed(seed))
        model.zero_grad()
        model(images).square().sum().backward()
        for optimiser in optimisers:
            optimiser.step()


def weights(model):
    return torch.cat([weight.detach().flatten() for weight in model.parameters()])


def test_matrices_take_muons_steps_and_the_rest_adams():
    together, apart = network(), network()
    matrices, filters = [apart[4].weight], [apart[0].weight]
    vectors = [apart[0].bias, apart[1].weight, apart[1].bias, apart[4].bias]
    muon = torch.optim.Muon(matrices, 0.01, 0.1, adjust_lr_fn="match_rms_adamw")
    groups = [{"params": filters, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
    steps(together, [build_optimiser(together, "muon", **OPTIONS)], 3)
    steps(apart, [muon, torch.optim.AdamW(groups, 0.01, (0.5, 0.999), fused=True)], 3)
    assert torch.equal(weights(together), weights(apart))


def test_a_step_of_a_matrix_is_as_long_in_all_directions():
    model = nn.Linear(48, 16, bias=False)
    before = model.weight.detach().clone()
    model.weight.grad = torch.randn(16, 1) * torch.randn(1, 48) + 0.1 * torch.randn(16, 48)  # one direction prevails
    build_optimiser(model, "muon", 0.01, (0.5, 0.999), 0.0).step()
    found = torch.linalg.svdvals((before - model.weight.detach()).double())
    # Newton-Schulz in bfloat16 leaves singular values between about 0.7 and 1.2 of what they should be; those of the
    # gradient span more than a factor of 20.
    wanted = 0.01 * 0.2 * math.sqrt(48)
    assert (found / wanted).min() > 0.5
    assert (found / wanted).max() < 1.4
    assert torch.linalg.cond(model.weight.grad) > 20


@pytest.mark.parametrize("name", ["adam", "muon"])
def test_a_schedule_moves_every_group_and_a_state_put_back_goes_on_with_the_same_bits(name):
    whole, parts = network(), network()
    optimiser = build_optimiser(whole, name, **OPTIONS)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: 0.5**step)
    steps(whole, [optimiser], 2)
    schedule.step()
    parts.load_state_dict(whole.state_dict())
    again = build_optimiser(parts, name, **OPTIONS)
    again.load_state_dict(copy.deepcopy(optimiser.state_dict()))
    assert {group["lr"] for group in again.param_groups} == {0.005}
    steps(whole, [optimiser], 2, start=2)
    steps(parts, [again], 2, start=2)
    assert torch.equal(weights(whole), weights(parts))
    assert not torch.equal(weights(whole), weights(network()))
