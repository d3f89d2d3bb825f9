"""Weighted nearest neighbours by cosine similarity: no training, hence nothing to tune."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from dim.devices import exact_products
from dim.errors import UserError
from dim.evaluation.features import check_splits, percent
from dim.progress import Report, silent

NEIGHBOURS = 20


def knn(
    train_features: Tensor,
    train_labels: Tensor,
    test_features: Tensor,
    test_labels: Tensor,
    *,
    neighbours: int = NEIGHBOURS,
    temperature: float = 0.07,
    chunk: int = 500,
    progress: Report = silent,
) -> dict[str, Any]:
    """Each of the nearest training rows votes for its class with weight exp(cosine / temperature).

    The usual setting of instance discrimination (Wu et al. 2018): k 200 and temperature 0.07; k 20 is common
    since.

    Args:
        train_features, test_features: (N, D) float32 on one device, taken as they are.
        train_labels, test_labels: (N,) int64 from 0 upwards.
        chunk: test rows at a time; memory is chunk x training rows.

    Returns:
        `accuracy` in percent, and the settings `neighbours` and `temperature`.

    Raises:
        UserError: wrong types or shapes, a k outside [1, N], a temperature that is not positive.
    """
    check_splits("knn", train_features, train_labels, test_features, test_labels)
    if not 1 <= neighbours <= len(train_labels):
        raise UserError(f"knn: neighbours must lie in 1 to {len(train_labels)} (the training rows), found {neighbours}")
    if temperature <= 0:
        raise UserError(f"knn: temperature must be positive, found {temperature}")
    classes = int(train_labels.max()) + 1
    train = functional.normalize(train_features)
    predictions = []
    with exact_products():
        for start in range(0, len(test_labels), chunk):
            test = functional.normalize(test_features[start : start + chunk])
            similarity, nearest = (test @ train.T).topk(neighbours, dim=1)
            # Relative to the nearest neighbour, so that a small temperature does not overflow.
            weights = ((similarity - similarity[:, :1]) / temperature).exp()
            votes = weights.new_zeros(len(test), classes).scatter_add_(1, train_labels[nearest], weights)
            predictions.append(votes.argmax(1))
            progress("knn", min(1.0, (start + chunk) / len(test_labels)))
    return {
        "accuracy": percent(torch.cat(predictions), test_labels),
        "neighbours": neighbours,
        "temperature": temperature,
    }
