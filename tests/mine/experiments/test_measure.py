import pytest
import torch

from dim.mine.experiments import measure
from dim.mine.experiments.measure import Training
from dim.mine.samplers import Correlated
from dim.progress import silent

TINY = Training(steps=150, batch_size=128, learning_rate=1e-2, widths=(32,), test_pairs=5000, kraskov_pairs=1000)


@pytest.mark.parametrize("estimator", ["dv", "nwj", "kraskov"])
def test_estimates_stand_beside_the_truth(estimator):
    pair = Correlated(0.8, 1)
    found = measure.estimate(pair, estimator, TINY, 0, torch.device("cpu"), silent)
    assert found["truth"] == pair.information
    assert found["error"] == found["estimate"] - pair.information
    assert abs(found["error"]) < 0.15
    assert ("standard_error" in found) == (estimator != "kraskov")


def test_what_diverges_has_no_estimate():
    found = measure.estimate(
        Correlated(0.99, 20),
        "chi2",
        Training(steps=5, learning_rate=1e19, widths=(8,), test_pairs=100),
        0,
        torch.device("cpu"),
        silent,
    )
    assert found == {"truth": Correlated(0.99, 20).information, "status": "diverged"}


def test_options_reach_the_estimator(monkeypatch):
    made = {}

    class Recorded:
        estimate_, standard_error_, history_ = 0.5, 0.1, ()

        def __init__(self, **options):
            made.update(options)

        def fit_sampler(self, pair, rows):
            made["rows"] = rows

    monkeypatch.setattr(measure, "MINE", Recorded)
    training = Training(steps=3, batch_size=5, learning_rate=0.1, widths=(7,), test_pairs=11, test_negatives=13)
    measure.estimate(Correlated(0.8, 1), "nwj", training, 17, torch.device("cpu"), silent)
    assert made.items() >= {"bound": "nwj", "steps": 3, "batch_size": 5, "learning_rate": 0.1, "rows": 11}.items()
    assert made.items() >= {"widths": (7,), "held_out_negatives": 13, "seed": 17, "patience": None}.items()


def test_every_seed_draws_pairs_of_its_own():
    pair = Correlated(0.8, 1)
    found = [measure.estimate(pair, "kraskov", TINY, seed, torch.device("cpu"), silent) for seed in (0, 0, 1)]
    assert found[0] == found[1] != found[2]
