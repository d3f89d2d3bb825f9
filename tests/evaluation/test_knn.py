import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier

from dim.errors import UserError
from dim.evaluation.knn import knn


@pytest.mark.parametrize("temperature", [0.07, 0.5])
def test_equals_scikit_learn_with_the_same_weights(digits, temperature):
    ours = knn(
        digits.train,
        digits.train_labels,
        digits.test,
        digits.test_labels,
        neighbours=(1, 20, 200),
        temperature=temperature,
        chunk=100,
    )
    for k, accuracy in zip((1, 20, 200), ours["accuracy"], strict=True):
        theirs = KNeighborsClassifier(k, metric="cosine", weights=lambda distance: np.exp((1 - distance) / temperature))
        theirs.fit(digits.train.numpy(), digits.train_labels.numpy())
        expected = 100 * theirs.score(digits.test.numpy(), digits.test_labels.numpy())
        assert accuracy == pytest.approx(expected, abs=1e-9)


def test_the_usual_setting_is_the_default_and_shuffled_labels_give_chance(shuffled):
    result = knn(shuffled.train, shuffled.train_labels, shuffled.test, shuffled.test_labels)
    assert (result["neighbours"], result["temperature"]) == ([20, 200], 0.07)
    assert all(3 < accuracy < 20 for accuracy in result["accuracy"])


def test_a_tiny_temperature_is_the_nearest_neighbour(digits):
    arguments = (digits.train, digits.train_labels, digits.test, digits.test_labels)
    result = knn(*arguments, neighbours=(1, 20), temperature=1e-6)
    assert result["accuracy"][0] == pytest.approx(result["accuracy"][1], abs=0.2)


def test_bad_arguments_are_named(digits):
    arguments = (digits.train, digits.train_labels, digits.test, digits.test_labels)
    with pytest.raises(UserError, match="1 to 1200"):
        knn(*arguments, neighbours=(1201,))
    with pytest.raises(UserError, match="temperature must be positive"):
        knn(*arguments, temperature=0.0)
