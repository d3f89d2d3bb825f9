import dataclasses
import json

import pytest

from dim.evaluation.settings import PROTOCOLS


def spent(protocol):
    return [getattr(protocol, name).epochs for name in ("mlp", "decoder", "mine", "ndm")]


def test_each_protocol_trains_longer_than_the_one_before():
    quick, standard, full = (spent(PROTOCOLS[name]) for name in ("quick", "standard", "full"))
    assert all(a <= b <= c for a, b, c in zip(quick, standard, full, strict=True))


@pytest.mark.parametrize("name", ["standard", "full"])
def test_nothing_is_chosen_without_held_out_images(name):
    protocol = PROTOCOLS[name]
    assert len(protocol.svm["costs"]) > 1
    assert protocol.raw_costs


@pytest.mark.parametrize("name", PROTOCOLS)
def test_settings_can_be_written_down_and_compared(name):
    written = [json.dumps(dataclasses.asdict(protocol)) for protocol in PROTOCOLS.values()]
    assert written.count(json.dumps(dataclasses.asdict(PROTOCOLS[name]))) == 1
