import pytest
import torch

from dim.evaluation.classifier import Fit, Problem, choose_cost, predict
from dim.evaluation.features import split
from dim.evaluation.newton import Rows
from dim.progress import silent


class Scripted(Problem):
    """Recognises the share of held-out rows that is written down for each cost."""

    def __init__(self, shares, held):
        super().__init__(torch.randn(40, 2), torch.arange(40) % 2)
        self.shares, self.held, self.fitted = shares, held, []

    def fit(self, cost, start, kept=None):
        self.fitted.append((cost, None if kept is None else kept.tolist(), start.sum().item()))
        weights = self.zero_weights()
        weights[0, 0] = cost  # so that a later start tells which fit it came from
        return Fit(weights, 0.0, 0.0, None, 1, 1)


def choose(monkeypatch, shares, seed=0):
    _, held = split(40, 0.25, seed)
    problem = Scripted(shares, held)

    def predicted(rows, weights):
        labels, right = problem.labels[held], round(problem.shares[weights[0, 0].item()] * len(held))
        return torch.cat([labels[:right], 1 - labels[right:]])

    monkeypatch.setattr("dim.evaluation.classifier.predict", predicted)
    return problem, choose_cost(problem, list(shares), 0.25, seed, "test", silent)


@pytest.mark.parametrize("seed", [0, 5])
def test_the_best_cost_on_held_out_rows_is_chosen_and_starts_are_handed_on(monkeypatch, seed):
    problem, (cost, tried, start) = choose(monkeypatch, {0.01: 0.5, 0.1: 0.9, 1.0: 0.7}, seed)
    assert cost == 0.1
    assert [entry["cost"] for entry in tried] == [0.01, 0.1, 1.0]
    assert [entry["accuracy"] for entry in tried] == pytest.approx([50, 90, 70])
    assert [begun for _, _, begun in problem.fitted] == pytest.approx([0.0, 0.01, 0.1])
    assert start[0, 0] == 0.1
    kept, held = split(40, 0.25, seed)
    assert all(rows == kept.tolist() for _, rows, _ in problem.fitted)
    assert not set(kept.tolist()) & set(held.tolist())


def test_of_equal_costs_the_smallest_is_chosen(monkeypatch):
    assert choose(monkeypatch, {1.0: 0.8, 0.1: 0.8, 0.01: 0.5})[1][0] == 0.1


def test_two_worse_costs_in_a_row_end_the_search(monkeypatch):
    problem, (cost, tried, _) = choose(monkeypatch, {0.01: 0.8, 0.1: 0.7, 1.0: 0.6, 10.0: 1.0})
    assert cost == 0.01
    assert len(tried) == len(problem.fitted) == 3


def test_a_single_cost_is_taken_without_a_fit(monkeypatch):
    problem, (cost, tried, start) = choose(monkeypatch, {0.3: 0.5})
    assert (cost, tried, problem.fitted) == (0.3, [], [])
    assert not start.any()


def test_rows_that_are_not_kept_cost_nothing_and_prediction_takes_the_largest():
    problem = Scripted({}, None)
    assert torch.equal(problem.costs(2.0, None), torch.full((40,), 2.0))
    assert problem.costs(2.0, torch.tensor([3, 5])).nonzero().flatten().tolist() == [3, 5]
    rows = Rows(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
    weights = torch.tensor([[1.0, 0.0, 0.0], [0.0, 2.0, 0.0], [0.0, 0.0, 0.5]], dtype=torch.float64)
    assert predict(rows, weights).tolist() == [0, 1]
