import dataclasses
import math

import pytest
import torch

from dim.errors import UserError
from dim.evaluation.features import Standardiser, split
from dim.evaluation.mlp import Fitting, MLPProbe, Net, mlp

QUICK = MLPProbe(epochs=8, batch_size=64, learning_rate=3e-3)


def data(digits):
    return digits.train, digits.train_labels, digits.test, digits.test_labels


def test_more_features_tell_more(digits):
    train, labels, test, truth = data(digits)
    whole = mlp(train, labels, test, truth, QUICK)["accuracy"]
    part = mlp(train[:, 20:40].contiguous(), labels, test[:, 20:40].contiguous(), truth, QUICK)["accuracy"]
    assert whole > 93
    assert part < whole


def test_chance_on_shuffled_labels(shuffled):
    result = mlp(*data(shuffled), QUICK)
    assert 4 < result["accuracy"] < 18


def test_last_accuracies_are_averaged(digits):
    probe = MLPProbe(epochs=5, batch_size=64, last=3)
    result = mlp(*data(digits), probe)
    assert len(result["test_accuracies"]) == 5
    assert result["accuracy"] == result["test_accuracies"][-1]
    assert result["accuracy_last_k"] == pytest.approx(sum(result["test_accuracies"][-3:]) / 3)


def test_fitting_is_its_definition(digits):
    """Adam with a cosine on batches of standardised rows, shuffled anew in every epoch."""
    probe = MLPProbe(epochs=3, batch_size=64, dropout=0.0, weight_decay=0.01, seed=3)
    found = mlp(*data(digits), probe)
    rows, test = (Standardiser.fit(digits.train)(side) for side in (digits.train, digits.test))
    net, order = Net(64, 10, 200, 0.0, 3, torch.device("cpu")), torch.Generator().manual_seed(3)
    optimiser = torch.optim.Adam(net.parameters(), betas=(0.5, 0.999), weight_decay=0.01)
    losses, accuracies, taken = [], [], 0
    for _ in range(3):
        nats = []
        for chosen in torch.randperm(1200, generator=order).split(64)[:18]:
            optimiser.param_groups[0]["lr"] = 3e-3 * (1 + math.cos(math.pi * taken / (3 * 18))) / 2
            loss = torch.nn.functional.cross_entropy(net(rows[chosen]), digits.train_labels[chosen])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            nats.append(loss.item())
            taken += 1
        losses.append(sum(nats) / 18)
        net.eval()
        accuracies.append(100 * (net(test).argmax(1) == digits.test_labels).double().mean().item())
        net.train()
    assert found["train_losses"] == pytest.approx(losses, rel=1e-3)
    assert found["test_accuracies"] == pytest.approx(accuracies, abs=0.35)  # two of 597 rows, by rounding


def test_dropout_and_decay_are_chosen_on_training_rows_alone(digits):
    probe = dataclasses.replace(QUICK, dropout=(0.0, 0.9), weight_decay=(0.0, 1.0), validation=0.2)
    rows, labels, test, truth = data(digits)
    result = mlp(rows, labels, test, truth, probe)
    tried = [(one["dropout"], one["weight_decay"]) for one in result["tried"]]
    assert tried == [(0, 0), (0, 1), (0.9, 0), (0.9, 1)]
    assert result["tried"] == mlp(rows, labels, test, truth.roll(1), probe)["tried"]
    kept, held = split(len(labels), 0.2, probe.seed)
    by_hand = dataclasses.replace(QUICK, dropout=0.0, weight_decay=1.0)
    judged = mlp(rows[kept], labels[kept], rows[held], labels[held], by_hand)
    assert result["tried"][1]["accuracy"] == judged["accuracy"]
    best = max(result["tried"], key=lambda one: one["accuracy"])
    assert (best["dropout"], best["weight_decay"]) == (result["dropout"], result["weight_decay"]) == (0, 0)
    # All training rows are fitted in the end.
    whole = mlp(rows, labels, test, truth, dataclasses.replace(QUICK, dropout=0.0))
    assert result["test_accuracies"] == whole["test_accuracies"]


def test_published_schedule():
    probe = MLPProbe.published(epochs=20)
    assert (probe.batch_size, probe.learning_rate, probe.betas) == (64, 1e-4, (0.5, 0.999))
    assert (probe.dropout, probe.hidden, probe.decay, probe.milestones) == (0.1, 200, "steps", (50, 100))
    assert (probe.last, probe.standardise) == (20, False)
    assert MLPProbe.published().last == 100


def test_published_learning_rate_falls_at_the_milestones(digits):
    # A probe whose rate has fallen by ten twice hardly moves any more.
    falling = MLPProbe.published(epochs=3, milestones=(1, 2), learning_rate=1e-3)
    constant = MLPProbe.published(epochs=3, milestones=(), learning_rate=1e-3)
    fallen, free = (mlp(*data(digits), probe)["train_losses"] for probe in (falling, constant))
    assert fallen[0] == free[0]
    assert fallen[2] > free[2] + 0.05


def test_cosine_falls_to_zero_over_all_steps(digits, rates, cosine):
    probe = dataclasses.replace(QUICK, epochs=2)
    mlp(*data(digits), probe)
    assert rates == pytest.approx(cosine(probe.learning_rate, 2 * (1200 // 64)))


def test_accuracy_is_of_single_rows_and_changes_nothing(digits):
    fitting = Fitting(QUICK, {"dropout": 0.5, "weight_decay": 0.0}, digits.train, 10, steps=18)
    for rows in torch.arange(1200).split(64)[:18]:
        fitting.step(rows, digits.train_labels[rows])
    before = {name: value.clone() for name, value in fitting.net.state_dict().items()}
    stream = fitting.net.generator.get_state()
    whole = fitting.accuracy(digits.test, digits.test_labels)
    parts = [fitting.accuracy(digits.test[rows], digits.test_labels[rows]) for rows in torch.arange(597).split(3)]
    assert whole == pytest.approx(sum(parts) / 199)
    assert fitting.net.training
    assert torch.equal(fitting.net.generator.get_state(), stream)
    torch.testing.assert_close(fitting.net.state_dict(), before, rtol=0, atol=0)


def test_net_drops_units_in_training_only():
    net = Net(10, 3, hidden=2000, dropout=0.25, seed=0, device=torch.device("cpu"))
    seen = []
    net.norm.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    batch = torch.randn(50, 10, generator=torch.Generator().manual_seed(0))
    net(batch)
    net.eval()
    net(batch)
    dropped, whole = seen
    zeros = dropped == 0
    assert zeros.float().mean() == pytest.approx(0.25, abs=0.01)
    torch.testing.assert_close(dropped[~zeros], whole[~zeros] / 0.75)


def test_bad_arguments_are_named(digits):
    with pytest.raises(UserError, match="epochs >= last >= 1"):
        mlp(*data(digits), MLPProbe(epochs=2, last=3))
    with pytest.raises(UserError, match="give at least one"):
        mlp(*data(digits), MLPProbe(dropout=[]))
    with pytest.raises(UserError, match="cannot hold 0 of"):
        mlp(*data(digits), MLPProbe(dropout=(0.0, 0.1)))
    with pytest.raises(UserError, match="mlp, training: labels must be int64"):
        mlp(digits.train, digits.train_labels[:5], digits.test, digits.test_labels)
