import math

import torch

from dim.data.sources import load_dataset
from dim.evaluation.information import MINETraining, information


def test_codes_that_tell_the_class_share_information_with_the_images():
    dataset = load_dataset("digits")
    codes = [torch.nn.functional.one_hot(split.labels, 10).float() for split in (dataset.train, dataset.test)]
    images = dataset.train.images, dataset.test.images
    short = MINETraining(epochs=3, batch_size=64, learning_rate=1e-3, evaluations=2)
    found = information(images[0], codes[0], images[1], codes[1], short)
    # I(X; class) cannot exceed the entropy of the classes, and digits tell them well.
    assert 1.0 < found["estimate"] < math.log(10) + 0.1
    assert found["ceiling"] == math.log(360)
    last = found["history"][-1]
    assert (found["estimate"], found["train_estimate"]) == (last["estimate"], last["train"])
    assert last["estimate"] != last["train"]
    short = MINETraining(epochs=1, batch_size=64, learning_rate=1e-3, evaluations=1)
    noise = [torch.randn(len(split.labels), 4) for split in (dataset.train, dataset.test)]
    nothing = information(images[0], noise[0], images[1], noise[1], short)
    assert nothing["estimate"] < 0.2
