import dataclasses
import json

import pytest

from dim.evaluation.battery import EVALUATIONS
from dim.evaluation.decoder import DecoderTraining
from dim.evaluation.mlp import MLPProbe
from dim.evaluation.ndm import NDMTraining
from dim.evaluation.settings import PROTOCOLS


def spent(protocol):
    return [getattr(protocol, name).epochs for name in ("mlp", "decoder", "mine", "ndm")]


def test_full_is_the_paper_s_training_where_it_was_published():
    full = PROTOCOLS["full"]
    paper = {"epochs": 1000, "batch_size": 64, "learning_rate": 1e-4, "decay": "steps", "milestones": (50, 100)}
    assert full.mlp == MLPProbe(hidden=200, dropout=0.1, standardise=False, last=100, **paper)
    assert full.svm["loss"] == "hinge"
    assert full.ndm == NDMTraining("kl", 1000, 10_000, 1e-4, (0.5, 0.999), (500, 750))
    decoder = {"widths": (512, 256, 128, 64), "epochs": 150, "batch_size": 64, "learning_rate": 1e-4, "decay": "steps"}
    assert full.decoder == DecoderTraining(milestones=(50, 100), **decoder)
    assert (full.mine.bound, full.mine.epochs, full.mine.batch_size, full.mine.learning_rate) == ("dv", 50, 128, 3e-4)


def test_each_protocol_trains_longer_than_the_one_before():
    quick, standard, full = (spent(PROTOCOLS[name]) for name in ("quick", "standard", "full"))
    assert all(a <= b <= c for a, b, c in zip(quick, standard, full, strict=True))


@pytest.mark.parametrize("name", ["standard", "full"])
def test_longer_protocols_choose_c(name):
    protocol = PROTOCOLS[name]
    assert len(protocol.svm["costs"]) > 1
    assert protocol.raw_costs


@pytest.mark.parametrize("name", PROTOCOLS)
def test_nothing_is_chosen_without_held_out_images(name):
    probe = PROTOCOLS[name].mlp
    assert (len(probe.choices) > 1) == (probe.validation > 0) == (name == "standard")


@pytest.mark.parametrize("evaluation", EVALUATIONS)
@pytest.mark.parametrize("name", PROTOCOLS)
def test_every_evaluation_knows_every_protocol(name, evaluation):
    protocol = PROTOCOLS[name]
    assert isinstance(EVALUATIONS[evaluation].budget(protocol), str)
    assert EVALUATIONS[evaluation].seeded(protocol) in (True, False)
    chooses = name != "quick" if evaluation == "linear" else evaluation not in ("knn", "rank")
    assert EVALUATIONS[evaluation].seeded(protocol) == chooses


@pytest.mark.parametrize("name", PROTOCOLS)
def test_settings_can_be_written_down_and_compared(name):
    written = [json.dumps(dataclasses.asdict(protocol)) for protocol in PROTOCOLS.values()]
    assert written.count(json.dumps(dataclasses.asdict(PROTOCOLS[name]))) == 1
