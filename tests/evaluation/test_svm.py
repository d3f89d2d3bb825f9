import dataclasses

import pytest
import torch
from sklearn.svm import LinearSVC

from dim.errors import UserError
from dim.evaluation.classifier import predict
from dim.evaluation.features import Standardiser, split
from dim.evaluation.newton import Rows, minimise
from dim.evaluation.svm import Machines, svm


def machine_weights(machine):
    return torch.cat([torch.tensor(machine.coef_), torch.tensor(machine.intercept_)[:, None]], dim=1)


def objective(weights, features, labels, cost, power):
    """Float64 definition: (K,) values of 1/2 |w|^2 + C sum max(0, 1 - y f)^power."""
    values = features.double() @ weights[:, :-1].T + weights[:, -1]
    signs = 2 * torch.nn.functional.one_hot(labels).double() - 1
    return 0.5 * weights.square().sum(1) + cost * (1 - signs * values).clamp(min=0).pow(power).sum(0)


@pytest.mark.parametrize("cost", [1e-4, 1e-2, 1.0])
@pytest.mark.parametrize("standardise", [True, False])
def test_squared_hinge_reaches_liblinear(digits, cost, standardise):
    # Raw pixels in [0, 1]: liblinear does not converge on larger raw ones.
    standardiser = Standardiser.fit(digits.train)
    train = standardiser(digits.train) if standardise else digits.train / 16
    test = standardiser(digits.test) if standardise else digits.test / 16
    problem = Machines(train, digits.train_labels, "squared_hinge")
    fit = problem.fit(cost, problem.zero_weights())
    machine = LinearSVC(C=cost, dual=False, tol=1e-6, max_iter=5000).fit(train, digits.train_labels)
    theirs = objective(machine_weights(machine), train, digits.train_labels, cost, 2)
    ours = objective(fit.weights, train, digits.train_labels, cost, 2)
    assert fit.objective == pytest.approx(ours.sum().item(), rel=1e-5)
    assert ((ours - theirs) / theirs).abs().max() < 1e-4
    same = predict(Rows(test), fit.weights) == torch.tensor(machine.predict(test))
    assert same.double().mean() >= 0.999


def test_gap_bounds_the_distance_from_the_minimum(digits):
    features = Standardiser.fit(digits.train)(digits.train)
    problem = Machines(features, digits.train_labels, "squared_hinge")
    exact = problem.fit(0.01, problem.zero_weights())
    assert exact.gap <= 1e-5
    nearby = exact.weights + 0.01 * torch.randn(
        exact.weights.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    )
    costs = torch.full((len(features),), 0.01)
    there = minimise(problem.rows, problem.signs, costs, nearby, 1e-5, max_iterations=0)
    minimum = minimise(problem.rows, problem.signs, costs, exact.weights, 1e-5, max_iterations=0)
    distance = there.objective - minimum.objective
    assert (distance > 0).all()
    assert (there.gap >= distance).all()
    # Of the weights' own half square, without any rows, the bound is exact.
    alone = minimise(problem.rows, problem.signs, 0 * costs, nearby, 1e-5, max_iterations=0)
    torch.testing.assert_close(alone.gap, 0.5 * nearby.square().sum(1), rtol=1e-6, atol=0)


def test_rows_left_out_do_not_count(digits):
    problem = Machines(digits.train / 16, digits.train_labels, "squared_hinge")
    kept = torch.arange(0, 1200, 2)
    masked = problem.fit(0.1, problem.zero_weights(), kept)
    alone = Machines(digits.train[kept] / 16, digits.train_labels[kept], "squared_hinge")
    expected = alone.fit(0.1, alone.zero_weights())
    assert masked.objective == pytest.approx(expected.objective, rel=1e-5)


def test_diagonal_preconditioner_reaches_the_same_objective(digits, monkeypatch):
    features = Standardiser.fit(digits.train)(digits.train)
    problem = Machines(features, digits.train_labels, "squared_hinge")
    factored = problem.fit(0.01, problem.zero_weights())
    monkeypatch.setattr(problem.rows, "full", False)
    monkeypatch.setattr(problem.rows, "_moments", None)
    diagonal = problem.fit(0.01, problem.zero_weights())
    assert diagonal.products > factored.products
    assert diagonal.objective == pytest.approx(factored.objective, rel=1e-5)


@pytest.mark.parametrize("cost", [1e-3, 1e-2])
def test_hinge_gap_is_a_true_bound(digits, cost):
    features = Standardiser.fit(digits.train)(digits.train)
    problem = Machines(features, digits.train_labels, "hinge")
    fit = problem.fit(cost, problem.zero_weights())
    machine = LinearSVC(C=cost, loss="hinge", tol=1e-7, max_iter=100_000).fit(features, digits.train_labels)
    theirs = objective(machine_weights(machine), features, digits.train_labels, cost, 1)
    ours = objective(fit.weights, features, digits.train_labels, cost, 1)
    assert fit.objective == pytest.approx(ours.sum().item(), rel=1e-5)
    assert fit.gap <= 1e-3
    # Both lie between the certified lower bound and above the minimum, whichever is closer to it.
    assert (theirs >= ours * (1 - fit.gap) * (1 - 1e-6)).all()
    assert (ours >= theirs * (1 - 1e-3)).all()


def test_result_of_a_whole_evaluation(digits):
    result = svm(digits.train, digits.train_labels, digits.test, digits.test_labels, runs=3)
    assert result["accuracy"] > 92
    assert result["converged"]
    assert result["cost"] in [entry["cost"] for entry in result["validation_accuracies"]]
    best = max(entry["accuracy"] for entry in result["validation_accuracies"])
    assert {"cost": result["cost"], "accuracy": best} in result["validation_accuracies"]
    assert len(set(result["accuracies"])) > 1
    spread = torch.tensor(result["accuracies"], dtype=torch.float64)
    assert result["accuracy"] == pytest.approx(spread.mean().item())
    assert result["accuracy_std"] == pytest.approx(spread.std().item())


def test_every_run_of_every_seed_leaves_other_rows_out(digits, monkeypatch):
    seeds = []

    def noted(rows, share, seed):
        seeds.append(seed)
        return split(rows, share, seed)

    monkeypatch.setattr("dim.evaluation.svm.split", noted)
    for seed in (0, 1):
        svm(digits.train, digits.train_labels, digits.test, digits.test_labels, costs=[1e-3], runs=3, seed=seed)
    assert len(set(seeds)) == len(seeds) == 6


def test_the_largest_gap_of_all_fits_is_told_and_accuracies_are_of_their_rows(digits, monkeypatch):
    fit, gaps = Machines.fit, iter([1e-6, 3e-3, 2e-6])
    monkeypatch.setattr(Machines, "fit", lambda *given: dataclasses.replace(fit(*given), gap=next(gaps)))
    result = svm(digits.train, digits.train_labels, digits.test[:50], digits.test_labels[:50], costs=[1e-2], runs=2)
    assert result["relative_gap"] == 3e-3
    assert not result["converged"]
    standardiser = Standardiser.fit(digits.train)
    machine = LinearSVC(C=1e-2, dual=False).fit(standardiser(digits.train), digits.train_labels)
    scores = [
        100 * machine.score(standardiser(rows), labels)
        for rows, labels in ((digits.train, digits.train_labels), (digits.test[:50], digits.test_labels[:50]))
    ]
    assert [result["train_accuracy"], result["accuracy_all_rows"]] == pytest.approx(scores, abs=0.2)
    assert abs(scores[0] - scores[1]) > 0.5


def test_result_is_deterministic_and_names_no_accuracy_by_chance(digits, shuffled):
    arguments = (shuffled.train, shuffled.train_labels, digits.test, digits.test_labels)
    result = svm(*arguments, costs=[1e-3], runs=2)
    assert 4 < result["accuracy"] < 18
    assert result == svm(*arguments, costs=[1e-3], runs=2)


def test_a_run_is_liblinear_on_the_rows_that_it_keeps(digits):
    train = Standardiser.fit(digits.train)(digits.train)
    test = Standardiser.fit(digits.train)(digits.test)
    result = svm(digits.train, digits.train_labels, digits.test, digits.test_labels, costs=[1e-2], runs=1)
    kept, _ = split(len(train), 0.1, 1)
    machine = LinearSVC(C=1e-2, dual=False).fit(train[kept], digits.train_labels[kept])
    assert result["accuracies"] == pytest.approx([100 * machine.score(test, digits.test_labels)], abs=0.2)


def test_test_rows_are_standardised_as_the_training_rows(digits):
    standardiser = Standardiser.fit(digits.train)
    problem = Machines(standardiser(digits.train), digits.train_labels, "squared_hinge")
    weights = problem.fit(1e-3, problem.zero_weights()).weights
    # Of one class alone, so that their own statistics are others.
    zeros = digits.test_labels == 0
    found = predict(Rows(standardiser(digits.test[zeros])), weights) == 0
    arguments = (digits.train, digits.train_labels, digits.test[zeros], digits.test_labels[zeros])
    accuracy = svm(*arguments, costs=[1e-3], runs=0)["accuracy"]
    assert accuracy == pytest.approx(100 * found.double().mean().item())
    assert accuracy > 90


def test_two_classes_and_a_class_without_training_rows(digits):
    chosen, others = digits.train_labels < 3, digits.test_labels < 3
    labels = digits.train_labels[chosen]
    labels[labels == 1] = 2
    truth = digits.test_labels[others]
    truth[truth == 1] = 2
    result = svm(digits.train[chosen], labels, digits.test[others], truth, costs=[0.01], runs=0)
    assert result["accuracy"] > 95


def test_bad_arguments_are_named(digits):
    arguments = (digits.train, digits.train_labels, digits.test, digits.test_labels)
    with pytest.raises(UserError, match="costs must be positive"):
        svm(*arguments, costs=[0.0])
