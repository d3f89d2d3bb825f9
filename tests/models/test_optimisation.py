import itertools
import math

import pytest
from torch import nn

from dim.errors import UserError
from dim.models.optimisation import check_optimisation, doubts, parameter_groups, relative_rate


def never():
    raise AssertionError("the number of steps does not matter here")


def test_the_rate_rises_linearly_and_stays():
    assert [relative_rate(step, 4, "constant", never) for step in range(6)] == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]


def test_after_warm_up_a_cosine_takes_the_rate_to_zero():
    rates = [relative_rate(step, 4, "cosine", lambda: 12) for step in range(4, 14)]
    assert rates[:9] == pytest.approx([0.5 + 0.5 * math.cos(math.pi * part / 8) for part in range(9)])
    assert all(a > b for a, b in itertools.pairwise(rates[:9]))
    assert rates[9] == 0


@pytest.mark.parametrize("warmup", [0, 1, 5])
def test_before_warm_up_ends_nobody_asks_how_long_the_run_is(warmup):
    assert all(0 < relative_rate(step, warmup, "cosine", never) <= 1 for step in range(max(1, warmup)))


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ((0, 0, "constant", 30, None), None),
        ((0, 0, "constant", math.inf, 12), None),
        ((0, 29, "constant", 30, 12), None),
        ((0, 30, "constant", 30, None), "warm-up takes 30 steps and the run has 30: the learning rate ends at 1 of"),
        ((0, 60, "cosine", 30, None), "ends at 0.5 of"),
        ((0, 0, "cosine", math.inf, None), "has no cosine"),
        ((0, 0, "cosine", 30, None), None),
        ((10, 0, "cosine", 30, 30), None),
        ((10, 0, "cosine", 20, 30), "planned for 30 steps and is now for 20: the learning rate goes on at 0.5 of"),
        ((1, 4, "cosine", 20, 30), "goes on at 0.5 of"),
    ],
)
def test_what_is_odd_about_a_run_is_said(asked, said):
    found = doubts(*asked)
    assert (found is None) == (said is None)
    assert said is None or said in found


@pytest.mark.parametrize("decay", [0.0, 0.5])
def test_groups_hold_every_parameter_once(decay):
    model = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4))
    groups = parameter_groups(model, decay)
    held = [weight for group in groups for weight in group["params"]]
    assert sorted(map(id, held)) == sorted(map(id, model.parameters()))
    assert {weight.ndim for group in groups if group["weight_decay"] for weight in group["params"]} == (
        {2} if decay else set()
    )


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"betas": (0.5, 1.0)}, "betas are"),
        ({"weight_decay": 10.0}, "weight_decay is"),
        ({"schedule": "linear"}, "schedule"),
        ({"warmup_steps": -1}, "warmup_steps"),
    ],
)
def test_settings_that_train_nothing_are_refused(changed, message):
    fine = {"learning_rate": 0.1, "betas": (0.5, 0.999), "weight_decay": 0.5, "schedule": "cosine", "warmup_steps": 3}
    check_optimisation(**fine)
    with pytest.raises(UserError, match=message):
        check_optimisation(**fine | changed)
