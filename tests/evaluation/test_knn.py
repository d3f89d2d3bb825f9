import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier

from dim.errors import UserError
from dim.evaluation.knn import knn


@pytest.mark.parametrize("k", [1, 20, 200])
@pytest.mark.parametrize("temperature", [0.07, 0.5])
def test_equals_scikit_learn_with_the_same_weights(digits, temperature, k):
    arguments = (digits.train, digits.train_labels, digits.test, digits.test_labels)
    ours = knn(*arguments, neighbours=k, temperature=temperature, chunk=100)
    theirs = KNeighborsClassifier(k, metric="cosine", weights=lambda distance: np.exp((1 - distance) / temperature))
    theirs.fit(digits.train.numpy(), digits.train_labels.numpy())
    expected = 100 * theirs.score(digits.test.numpy(), digits.test_labels.numpy())
    assert ours["accuracy"] == pytest.approx(expected, abs=1e-9)


def test_shuffled_labels_give_chance(shuffled):
    result = knn(shuffled.train, shuffled.train_labels, shuffled.test, shuffled.test_labels)
    assert (result["neighbours"], result["temperature"]) == (20, 0.07)
    assert 3 < result["accuracy"] < 20


def test_a_tiny_temperature_is_the_nearest_neighbour(digits):
    arguments = (digits.train, digits.train_labels, digits.test, digits.test_labels)
    one, twenty = (knn(*arguments, neighbours=k, temperature=1e-6)["accuracy"] for k in (1, 20))
    assert one == pytest.approx(twenty, abs=0.2)


def test_bad_arguments_are_named(digits):
    arguments = (digits.train, digits.train_labels, digits.test, digits.test_labels)
    with pytest.raises(UserError, match="1 to 1200"):
        knn(*arguments, neighbours=1201)
    with pytest.raises(UserError, match="temperature must be positive"):
        knn(*arguments, temperature=0.0)
