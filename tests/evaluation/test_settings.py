import dataclasses
import json

import pytest

from dim.evaluation.battery import EVALUATIONS
from dim.evaluation.settings import PROTOCOLS


def spent(protocol):
    return [getattr(protocol, name).epochs for name in ("mlp", "decoder", "mine", "ndm")]


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
