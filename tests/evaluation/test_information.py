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


def test_each_number_stands_under_its_name_and_options_are_handed_on(monkeypatch):
    made = {}

    class Recorded:
        estimate_, standard_error_, mean_of_last_, spread_, ceiling_ = 1.0, 2.0, 3.0, 4.0, 5.0
        history_ = [{"train": 6.0}, {"train": 7.0}]  # noqa: RUF012

        def __init__(self, **options):
            made.update(options)

        def fit(self, *pairs):
            made["pairs"] = pairs

    monkeypatch.setattr("dim.evaluation.information.MINE", Recorded)
    codes = torch.zeros(2, 3)
    training = MINETraining(bound="nwj", epochs=3, batch_size=7, learning_rate=0.5, evaluations=9, seed=4)
    found = information("images", codes, "test images", "test codes", training)
    assert made["pairs"] == ("images", codes, "test images", "test codes")
    assert made.items() >= {"bound": "nwj", "epochs": 3, "batch_size": 7, "learning_rate": 0.5}.items()
    assert made.items() >= {"evaluations": 9, "seed": 4, "patience": None}.items()
    del found["history"]
    numbers = ("estimate", "standard_error", "mean_of_last", "spread", "ceiling")
    assert found == {**dict(zip(numbers, (1.0, 2.0, 3.0, 4.0, 5.0), strict=True)), "train_estimate": 7.0}
