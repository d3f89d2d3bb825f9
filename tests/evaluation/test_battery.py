import dataclasses

import pytest
import torch

from dim.data.dataset import Split
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
    features = {"y": digits.train[:300]}, {"y": digits.test[:200]}
    return Task(*features, train, test, SHORT, 0, f"{tmp_path}/", silent)


@pytest.mark.parametrize("name", EVALUATIONS)
def test_every_evaluation_reports_on_every_layer(task, name):
    found = EVALUATIONS[name].run(task)
    assert set(found) == {"y"}
    main = {"rank": "effective_rank", "decoder": "ssim", "mine": "estimate", "ndm": "estimate"}.get(name, "accuracy")
    assert isinstance(found["y"][main], float)
    assert EVALUATIONS[name].budget(SHORT) or name in PROBES


def test_raw_features_have_an_svm_of_their_own(task):
    svm = EVALUATIONS["svm"].run(task)["y"]
    assert svm["standardised"]
    assert not svm["raw"]["standardised"]
    assert svm["raw"]["accuracy"] > 80


def test_estimators_draw_their_convergence(task, tmp_path):
    EVALUATIONS["mine"].run(task)
    EVALUATIONS["ndm"].run(task)
    assert {path.name for path in tmp_path.iterdir()} >= {"mine-y.png", "ndm-y.png"}
    EVALUATIONS["ndm"].run(dataclasses.replace(task, pictures=f"{tmp_path}/evaluation-full-"))
    assert (tmp_path / "evaluation-full-ndm-y.png").exists()
