import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch.nn import functional

from dim.errors import UserError
from dim.evaluation.features import Standardiser
from dim.evaluation.linear import Softmax, linear


@pytest.mark.parametrize("cost", [1e-4, 1e-2, 1.0])
def test_reaches_scikit_learn(digits, cost):
    features = Standardiser.fit(digits.train)(digits.train)
    problem = Softmax(features, digits.train_labels)
    fit = problem.fit(cost, problem.zero_weights())
    # A constant feature instead of an intercept, which scikit-learn would not regularise.
    rows = torch.cat([features, torch.ones(len(features), 1)], dim=1).double()
    theirs = LogisticRegression(C=cost, fit_intercept=False, tol=1e-6, max_iter=5000)
    theirs.fit(rows.numpy(), digits.train_labels.numpy())

    def objective(weights):
        entropy = functional.cross_entropy(rows @ weights.T, digits.train_labels, reduction="sum")
        return (0.5 * weights.square().sum() + cost * entropy).item()

    minimum = objective(torch.tensor(theirs.coef_))
    assert fit.objective == pytest.approx(objective(fit.weights), rel=1e-5)
    assert fit.objective == pytest.approx(minimum, rel=1e-5)
    assert fit.gap <= 1e-5
    assert fit.objective * (1 - fit.gap) <= minimum * (1 + 1e-6)


def test_result_of_a_whole_evaluation(digits):
    arguments = (digits.train, digits.train_labels, digits.test, digits.test_labels)
    result = linear(*arguments)
    assert result["accuracy"] > 93
    assert result["converged"]
    assert 0 < result["cross_entropy"] < 0.3
    assert result == linear(*arguments)


def test_test_rows_are_standardised_as_the_training_rows(digits):
    standardiser = Standardiser.fit(digits.train)
    problem = Softmax(standardiser(digits.train), digits.train_labels)
    weights = problem.fit(1e-3, problem.zero_weights()).weights.double()
    # Of one class alone, so that their own statistics are others.
    zeros = digits.test_labels == 0
    values = standardiser(digits.test[zeros]).double() @ weights[:, :-1].T + weights[:, -1]
    labels = digits.test_labels[zeros]
    result = linear(digits.train, digits.train_labels, digits.test[zeros], labels, costs=[1e-3])
    assert result["cross_entropy"] == pytest.approx(functional.cross_entropy(values, labels).item(), rel=1e-4)
    assert result["accuracy"] == pytest.approx(100 * (values.argmax(1) == 0).double().mean().item())
    values = standardiser(digits.train).double() @ weights[:, :-1].T + weights[:, -1]
    right = (values.argmax(1) == digits.train_labels).double().mean().item()
    assert result["train_accuracy"] == pytest.approx(100 * right, abs=0.1)
    assert result["train_accuracy"] != result["accuracy"]


def test_chance_on_shuffled_labels(shuffled):
    arguments = (shuffled.train, shuffled.train_labels, shuffled.test, shuffled.test_labels)
    assert 4 < linear(*arguments, costs=[1e-3])["accuracy"] < 18


def test_a_single_class_is_always_found(digits):
    one = torch.zeros(20, dtype=torch.int64)
    result = linear(digits.train[:20], one, digits.test[:20], one, costs=[1e-3])
    assert result["accuracy"] == 100
    assert result["converged"]


def test_bad_arguments_are_named(digits):
    with pytest.raises(UserError, match="costs must be positive"):
        linear(digits.train, digits.train_labels, digits.test, digits.test_labels, costs=[])
    low = digits.train_labels < 5
    with pytest.raises(UserError, match="test label 9"):
        linear(digits.train[low], digits.train_labels[low], digits.test, digits.test_labels)
