import itertools

import pytest
import torch
from processes import run_in_processes

from dim import distributed
from dim.data.loader import Batch
from dim.errors import UserError
from dim.models import NoiseAsTargets
from dim.models.nat import reassign


def cost(codes, targets):
    return float((codes - targets).square().sum())


def test_assignment_is_the_best_of_all_permutations():
    codes = torch.nn.functional.normalize(torch.randn(6, 3))
    targets = torch.nn.functional.normalize(torch.randn(6, 3))
    chosen = reassign(codes, targets)
    assert sorted(chosen.tolist()) == list(range(6))
    best = min(cost(codes, targets[list(order)]) for order in itertools.permutations(range(6)))
    assert cost(codes, targets[chosen]) == pytest.approx(best)


@pytest.fixture
def model():
    torch.manual_seed(0)
    made = NoiseAsTargets(code_size=16, period=2)
    made.make_targets(40)
    return made


def test_targets_are_fixed_points_of_the_sphere(model):
    torch.testing.assert_close(model.targets.norm(dim=1), torch.ones(40))
    before = model.targets.clone()
    torch.manual_seed(7)
    model.make_targets(40)
    assert torch.equal(model.targets, before)
    assert {"targets", "assignment"} <= set(model.state_dict())


def test_reassignment_permutes_within_the_batch_and_never_costs_more(model, batch):
    codes = torch.nn.functional.normalize(model.encoder(batch.images)["y"]).detach()
    before = cost(codes, model.targets[model.assignment[batch.indices]])
    step = model.losses(batch)
    after = cost(codes, model.targets[model.assignment[batch.indices]])
    assert after < before
    assert float(step.losses["distance"]) == pytest.approx(after / 32, rel=1e-4)
    assert step.metrics["reassigned"] > 0.5
    assert sorted(model.assignment.tolist()) == list(range(40))
    assert model.assignment[32:].tolist() == list(range(32, 40))


def assigned(batch):
    """The assignment after one step, with this process's share of the batch."""
    torch.manual_seed(0)
    made = NoiseAsTargets(code_size=16, period=2)
    made.make_targets(40)
    made.eval()
    made.training = True  # the encoder stays in evaluation mode: its batch statistics have tests of their own
    rows = len(batch.images) // distributed.size()
    own = slice(distributed.rank() * rows, (distributed.rank() + 1) * rows)
    step = made.losses(Batch(batch.images[own], batch.labels[own], batch.indices[own]))
    return made.assignment, step.losses["distance"].detach()


def test_a_batch_spread_over_processes_is_one_batch(batch, tmp_path):
    alone, distance = assigned(batch)
    assert not torch.equal(alone, torch.arange(40))
    ranks = run_in_processes(assigned, tmp_path, batch)
    assert all(torch.equal(assignment, alone) for assignment, _ in ranks)
    torch.testing.assert_close((ranks[0][1] + ranks[1][1]) / 2, distance)


@pytest.mark.parametrize("epoch", range(4))
def test_targets_are_assigned_anew_once_a_period(batch, monkeypatch, epoch):
    model = NoiseAsTargets(code_size=16, period=3)
    model.make_targets(40)
    monkeypatch.setattr(type(model), "current_epoch", epoch)
    model.losses(batch)
    assert (model.assignment.tolist() == list(range(40))) == (epoch in (1, 2))


def test_the_encoder_alone_is_trained(model, batch, felt):
    assert felt(model, batch, ["distance"]) == {"encoder"}


def test_held_out_images_are_compared_with_the_nearest_target(model, batch):
    model.eval()
    distance = float(model.losses(batch).losses["distance"])
    codes = torch.nn.functional.normalize(model.encoder(batch.images)["y"])
    expected = torch.cdist(codes, model.targets).square().amin(1).mean()
    assert distance == pytest.approx(float(expected), rel=1e-4)
    assert model.assignment.tolist() == list(range(40))


def test_period_must_be_positive():
    with pytest.raises(UserError, match="period is 0"):
        NoiseAsTargets(period=0)
