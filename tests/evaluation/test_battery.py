import dataclasses

import pytest
import torch

from dim.data.dataset import Split
from dim.evaluation import battery
from dim.evaluation.battery import EVALUATIONS, PROBES, Task
from dim.evaluation.decoder import DecoderTraining
from dim.evaluation.information import MINETraining
from dim.evaluation.ndm import NDMTraining
from dim.evaluation.settings import PROTOCOLS
from dim.progress import silent

SHORT = dataclasses.replace(
    PROTOCOLS["quick"],
    decoder=DecoderTraining(epochs=1, widths=(16, 8, 8, 8)),
    mine=MINETraining(epochs=1, evaluations=2, batch_size=64),
    ndm=NDMTraining(epochs=2, evaluations=2),
    raw_costs=(1e-3,),
)


@pytest.fixture
def task(digits, tmp_path):
    def images(pixels):
        small = (pixels.view(-1, 1, 8, 8) * 15).byte().expand(-1, 3, -1, -1)
        return torch.nn.functional.interpolate(small, size=32)

    train = Split(images(digits.train[:300]), digits.train_labels[:300])
    test = Split(images(digits.test[:200]), digits.test_labels[:200])
    return Task("y", digits.train[:300], digits.test[:200], train, test, SHORT, 0, f"{tmp_path}/", silent)


@pytest.fixture
def calls(monkeypatch):
    """Arguments of what the evaluations call, each of which returns how many calls there were."""
    made = []

    def recorded(*arguments, **options):
        made.append((arguments, options))
        return {"accuracy": 0.0, "estimate": len(made), "history": []}

    for name in ("mlp", "svm", "linear", "knn", "spectrum", "reconstruction", "information", "ndm"):
        monkeypatch.setattr(battery, name, recorded)
    return made


@pytest.mark.parametrize("name", EVALUATIONS)
def test_every_evaluation_reports_its_main_number(task, name):
    found = EVALUATIONS[name].run(task)
    main = {"rank": "effective_rank", "decoder": "ssim", "mine": "estimate", "ndm": "estimate"}.get(name, "accuracy")
    assert isinstance(found[main], float)
    assert EVALUATIONS[name].budget(SHORT) or name in PROBES


def test_each_evaluation_is_given_the_rows_of_its_splits(task, calls):
    plain = dataclasses.replace(task, pictures=None)
    train, test, images, pictures = task.train, task.test, task.train_split.images, task.test_split.images
    probed = [train, task.train_split.labels, test, task.test_split.labels]
    expected = dict.fromkeys(("mlp", "svm", "linear", "knn"), probed) | {
        "rank": [test],
        "decoder": [train, images, test, pictures],
        "mine": [images, train, pictures, test],
        "ndm": [train, test],
    }
    assert set(expected) == set(EVALUATIONS)
    for name, given in expected.items():
        calls.clear()
        EVALUATIONS[name].run(plain)
        arguments, _ = calls[0]
        assert [id(each) for each in arguments[: len(given)]] == [id(each) for each in given], name


def test_ndm_with_a_sigmoid_is_of_squashed_codes(task, calls):
    found = EVALUATIONS["ndm"].run(dataclasses.replace(task, pictures=None))
    (squashed, held_out, *_), _ = calls[1]
    torch.testing.assert_close(squashed, 1 / (1 + (-task.train).exp()))
    torch.testing.assert_close(held_out, 1 / (1 + (-task.test).exp()))
    assert (found["estimate"], found["sigmoid"]["estimate"]) == (1, 2)


@pytest.mark.parametrize("name", [name for name in EVALUATIONS if name not in ("knn", "rank")])
def test_each_evaluation_is_given_the_seed(task, calls, name):
    EVALUATIONS[name].run(dataclasses.replace(task, seed=7, pictures=None))
    for arguments, options in calls:
        given = [options, *map(vars, filter(dataclasses.is_dataclass, (*arguments, *options.values())))]
        assert [each["seed"] for each in given if "seed" in each] == [7]


def test_raw_features_have_an_svm_of_their_own(task):
    svm = EVALUATIONS["svm"].run(task)
    assert svm["standardised"]
    assert not svm["raw"]["standardised"]
    assert svm["raw"]["accuracy"] > 80
    protocol = dataclasses.replace(task.protocol, raw_costs=(3e-5,))
    svm = EVALUATIONS["svm"].run(dataclasses.replace(task, protocol=protocol))
    assert svm["raw"]["cost"] == 3e-5 != svm["cost"]


def test_estimators_draw_their_convergence(task, tmp_path):
    EVALUATIONS["mine"].run(task)
    EVALUATIONS["ndm"].run(task)
    assert {path.name for path in tmp_path.iterdir()} >= {"mine-y.png", "ndm-y.png"}
    EVALUATIONS["ndm"].run(dataclasses.replace(task, pictures=f"{tmp_path}/evaluation-full-"))
    assert (tmp_path / "evaluation-full-ndm-y.png").exists()
