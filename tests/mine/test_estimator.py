import dataclasses
import itertools
import math
import statistics
import warnings

import numpy as np
import pytest
import torch
from sklearn.base import clone

from dim.errors import UserError
from dim.mine import MINE, estimator, training
from dim.mine.inputs import cut
from dim.objectives import OBJECTIVES

QUICK = {"steps": 250, "widths": (64,), "batch_size": 128, "learning_rate": 1e-2, "evaluations": 4}


def gaussians(rho, size, rows, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((rows, size))
    z = rho * x + math.sqrt(1 - rho**2) * rng.standard_normal((rows, size))
    return x.astype(np.float32), z.astype(np.float32), -size / 2 * math.log(1 - rho**2)


@pytest.mark.parametrize("bound", list(OBJECTIVES))
def test_every_objective_finds_one_dimension(bound):
    x, z, truth = gaussians(0.8, 1, 8000)
    options = {**QUICK, "negatives": 4}
    found = MINE(bound=bound, **options).fit(x, z)
    if bound == "infonce":
        # With four negatives it stays below the truth, and cannot exceed log 5.
        assert 0.35 < found.estimate_ < truth + 0.05
    else:
        assert found.estimate_ == pytest.approx(truth, abs=0.12)


@pytest.mark.parametrize("bound", ["dv", "jsd", "infonce"])
def test_separable_critics_score_all_pairs(bound):
    x, z, truth = gaussians(0.8, 1, 8000)
    found = MINE(bound=bound, critic="separable", units=16, **QUICK).fit(x, z)
    assert found.estimate_ == pytest.approx(truth, abs=0.12)


@pytest.mark.parametrize("report", ["dv", "nwj", "kl", "js", "smile", "infonce"])
@pytest.mark.parametrize("bound", ["jsd", "nwj", "hellinger"])
def test_a_critic_is_reported_by_every_estimate(bound, report):
    x, z, truth = gaussians(0.6, 1, 6000)
    found = MINE(bound=bound, report=report, **QUICK).fit(x, z)
    assert found.estimate_ == pytest.approx(truth, abs=0.08)


@pytest.mark.parametrize(
    ("bound", "report"),
    [*itertools.product(["dv", "infonce"], ["nwj", "kl", "js", "smile"]), ("infonce", "dv")],
)
def test_a_constant_left_to_chance_is_not_reported(bound, report):
    with pytest.raises(UserError, match=f"up to a constant.*or report {bound}"):
        MINE(bound=bound, report=report).fit(*gaussians(0.6, 1, 100)[:2])


def test_independence_gives_nearly_nothing_and_bits_are_nats_over_log_two():
    x, z, _ = gaussians(0.0, 2, 6000)
    options = {"epochs": 5, "widths": (32,)}
    nats, bits = (MINE(unit=unit, **options).fit(x, z) for unit in ("nats", "bits"))
    assert abs(nats.estimate_) < 0.05
    assert bits.estimate_ == pytest.approx(nats.estimate_ / math.log(2))
    assert bits.ceiling_ == pytest.approx(math.log2(1200))


def test_training_stops_by_pairs_that_are_not_reported_on(monkeypatch):
    seen, stop = [], training.Best.stop

    def watched(self, value, critic):
        seen.append(value)
        return stop(self, value, critic)

    monkeypatch.setattr(training.Best, "stop", watched)
    x, z, _ = gaussians(0.8, 1, 600)
    found = MINE(epochs=2, widths=(8,), evaluations=4).fit(x, z)
    assert seen == [entry["validation"] for entry in found.history_]
    assert not set(seen) & {entry["estimate"] for entry in found.history_}


def test_the_same_seed_gives_the_same_estimate():
    x, z, _ = gaussians(0.5, 1, 2000)
    a, b, c = (MINE(epochs=2, widths=(16,), seed=seed).fit(x, z).estimate_ for seed in (1, 1, 2))
    assert a == b != c


@pytest.mark.slow
@pytest.mark.parametrize(("size", "rho"), [(1, 0.9), (2, 0.9), (20, 0.5)])
def test_gaussians_on_fresh_pairs(size, rho):
    x, z, truth = gaussians(rho, size, 200_000)
    x_test, z_test, _ = gaussians(rho, size, 100_000, seed=1)
    found = MINE(epochs=20, widths=(256, 256)).fit(x, z, x_test, z_test)
    assert found.estimate_ == pytest.approx(truth, abs=max(0.05 * truth, 0.1))


@pytest.mark.parametrize(
    ("x", "z", "message"),
    [
        (np.ones((100, 2)), np.random.rand(100, 2), "x is constant"),
        (np.random.rand(100, 2), np.full((100, 2), np.nan), "NaN"),
        (np.random.rand(100, 2), np.random.rand(90, 2), "100 rows and z 90"),
        (np.random.rand(10, 2), np.random.rand(10, 2), "too few"),
        (np.empty((0, 2)), np.random.rand(10, 2), "empty"),
    ],
)
def test_bad_input_is_one_line(x, z, message):
    with pytest.raises(UserError, match=message) as error:
        MINE().fit(x, z)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bound": "mi"}, "no objective 'mi'"),
        ({"report": "jsd"}, "no estimate to report"),
        ({"report": "tuba"}, "a baseline that only tuba and interpolated train"),
        ({"bound": "interpolated", "negatives": 1}, "negatives is 1: interpolated needs at least 2"),
        ({"bound": "tuba", "report": "interpolated", "negatives": 1}, "interpolated needs at least 2"),
        ({"bound": "interpolated", "batch_size": 2}, "at least 2 negatives, here are 1"),
        ({"negatives": 0}, "negatives is 0: dv needs at least 1"),
        ({"evaluations": 0}, "evaluations is 0: it must be at least 1"),
        ({"patience": 0}, "patience is 0: it must be at least 1"),
        ({"steps": 0}, "steps is 0: it must be at least 1"),
        ({"held_out_negatives": 0}, "held_out_negatives is 0: it must be at least 1"),
        ({"widths": (8, 0)}, "widths is 0: it must be at least 1"),
        ({"widths": ()}, "widths is 0: it must be at least 1"),
        ({"units": 0, "critic": "separable"}, "units is 0: it must be at least 1"),
        ({"batch_size": 1}, "batch_size is 1: it must be at least 2"),
        ({"epochs": 0}, "epochs is 0: it must be a number above 0"),
        ({"learning_rate": -1}, "learning_rate is -1: it must be a number above 0"),
        ({"unit": "bit"}, "unit is 'bit': nats or bits"),
        ({"held_out": 1.0}, "shares"),
        ({"critic": "dot"}, "no critic 'dot'"),
    ],
)
def test_options_that_cannot_be_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        MINE(**options).fit(np.random.rand(100, 1), np.random.rand(100, 1))


def test_scikit_learn_can_copy_it():
    mine = MINE(bound="jsd", widths=(8,), steps=3, device="cpu", progress=False)
    fitted = clone(mine).fit(torch.randn(60, 1), torch.randn(60, 1))
    again = clone(fitted)
    assert again.get_params() == mine.get_params() == dataclasses.asdict(mine)
    assert not hasattr(again, "estimate_")
    assert "bound='jsd'" in repr(again)
    assert again.set_params(seed=3).seed == 3


def test_what_needs_a_training_says_so_and_pairs_must_be_alike():
    x = torch.randn(200, 2)
    for use in (lambda mine: mine.score(x, x), lambda mine: mine.plot()):
        with pytest.raises(UserError, match="nothing was trained yet"):
            use(MINE())
    mine = MINE(steps=2, batch_size=16, evaluations=1).fit(x, x + torch.randn(200, 2))
    with pytest.raises(UserError, match=r"pairs of \[\(1,\), \(2,\)\] are scored by a critic of \[\(2,\), \(2,\)\]"):
        mine.score(x[:, :1], x)
    with pytest.raises(UserError, match="asked for 10000 pairs and gave 200"):
        MINE(steps=2).fit_sampler(lambda rows, generator: (x, x))


def test_an_estimate_that_overflows_beyond_the_curve_s_pairs_is_a_divergence(monkeypatch):
    x, z, _ = gaussians(0.8, 1, 400)
    monkeypatch.setattr(estimator, "CURVE_PAIRS", 2)

    def overflowing(critic, x, z, negatives):
        scores = held_out(critic, x, z, negatives)
        return scores if len(x) <= 2 else dataclasses.replace(scores, negative=scores.negative + 1000.0)

    held_out = estimator.training.held_out
    monkeypatch.setattr(estimator.training, "held_out", overflowing)
    with pytest.raises(estimator.DivergenceError, match="all held-out pairs is not finite"):
        MINE(bound="nwj", steps=4, patience=None, evaluations=2).fit(x, z)


def drawn(rho, size):
    def sampler(rows, generator):
        x = torch.randn(rows, size, generator=generator)
        return x, rho * x + math.sqrt(1 - rho**2) * torch.randn(rows, size, generator=generator)

    return sampler, -size / 2 * math.log(1 - rho**2)


def test_fresh_pairs_at_every_step():
    sampler, truth = drawn(-0.9, 2)
    found = MINE(steps=300, widths=(64,), learning_rate=1e-2, batch_size=256, evaluations=2)
    assert found.fit_sampler(sampler, 20_000).estimate_ == pytest.approx(truth, abs=0.1)
    assert found.ceiling_ == math.log(20_000)
    assert found.score(*sampler(20_000, torch.Generator().manual_seed(9))) == pytest.approx(truth, abs=0.1)
    assert found.history_[-1]["epoch"] == pytest.approx(300 * 256 / 20_000)
    with pytest.raises(UserError, match="set steps"):
        MINE().fit_sampler(sampler)


def test_early_stopping_keeps_a_critic_that_overfits_from_harm(monkeypatch):
    x, z, truth = gaussians(0.5, 10, 600)
    options = {"steps": 800, "widths": (256,), "batch_size": 64, "learning_rate": 5e-3, "evaluations": 20}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        through = MINE(patience=None, **options).fit(x, z)
    assert "the critic overfits" in str(caught[-1].message)
    told = []
    monkeypatch.setattr(estimator, "warn_of_doubt", lambda *what: told.append(what))
    stopped = MINE(patience=4, **options).fit(x, z)
    assert len(stopped.history_) < 20 == len(through.history_)
    assert abs(stopped.estimate_ - truth) < abs(through.estimate_ - truth)
    # What is said of training is said of the critic that was kept.
    best = max(range(len(stopped.history_)), key=lambda k: stopped.history_[k]["validation"])
    kept = [entry["train"] for entry in stopped.history_[: best + 1][-3:]]
    assert best < len(stopped.history_) - 1
    steps = stopped.history_[best]["step"], stopped.history_[-1]["step"]
    assert told == [(stopped.estimate_, pytest.approx(np.mean(kept)), stopped.ceiling_, "nats", *steps)]
    settled = [entry["estimate"] for entry in stopped.history_[: best + 1]]
    assert stopped.mean_of_last_ == pytest.approx(np.mean(settled[-max(2, len(settled) // 4) :]))
    # Stopping looks at pairs that neither train nor report.
    assert {"train", "validation", "estimate"} <= set(stopped.history_[0])


def test_the_ceiling_is_told():
    x, z, _ = gaussians(0.999999, 4, 200)
    with pytest.warns(UserWarning, match="close to the ceiling of 3.69"):
        MINE(steps=200, widths=(64,), learning_rate=1e-2, patience=None).fit(x, z)


def test_what_classifies_has_infonce_s_ceiling_whatever_its_name(monkeypatch):
    mine = MINE(bound="nwj", critic="separable", batch_size=32, steps=4, evaluations=1, progress=None)
    monkeypatch.setattr(OBJECTIVES["nwj"], "classifies", True)
    x = torch.randn(500, 1)
    mine.fit(x, x + torch.randn(500, 1))
    assert mine.ceiling_ == pytest.approx(math.log(min(100, 1 + mine.negatives_)))


def test_infonce_has_a_ceiling_of_its_own():
    x, z, _ = gaussians(0.999, 4, 4000)
    options = {**QUICK, "steps": 200, "patience": None}
    with pytest.warns(UserWarning, match="close to the ceiling of 1.61"):
        few = MINE(bound="infonce", negatives=4, **options).fit(x, z)
    assert few.ceiling_ == pytest.approx(math.log(5))
    assert few.ceiling_ > few.estimate_
    assert MINE(bound="jsd", **options).fit(x, z).ceiling_ == pytest.approx(math.log(800))


def test_rows_of_a_sampler_may_be_in_any_order():
    sampler, truth = drawn(0.9, 1)

    def in_order(rows, generator):
        x, z = sampler(rows, generator)
        order = x[:, 0].argsort()
        return x[order], z[order]

    found = MINE(steps=300, widths=(64,), learning_rate=1e-2, batch_size=256, evaluations=2)
    assert found.fit_sampler(in_order, 20_000).estimate_ == pytest.approx(truth, abs=0.1)


def test_pairs_may_be_tested_and_scored_in_any_order():
    """Negatives are the rows that follow: of sorted pairs these are nearly the pair itself."""
    x = torch.randn(6000, 1, generator=torch.Generator().manual_seed(0))
    z = x + 0.3 * torch.randn(6000, 1, generator=torch.Generator().manual_seed(1))
    order = x[3000:, 0].argsort() + 3000
    found = {}
    for name, rows in (("as drawn", torch.arange(3000, 6000)), ("sorted", order)):
        mine = MINE(epochs=15, batch_size=100, widths=(64,), learning_rate=3e-3, evaluations=1, patience=None)
        mine.fit(x[:3000], z[:3000], x[rows], z[rows])
        found[name] = mine.estimate_, mine.score(x[rows], z[rows])
    assert found["as drawn"][0] > 0.8
    assert found["sorted"] == pytest.approx(found["as drawn"], abs=0.1)


def test_spread_mean_and_error_are_their_definitions():
    x = torch.randn(1000, 1)
    mine = MINE(epochs=4, batch_size=50, widths=(16,), evaluations=12, patience=None).fit(x, x + torch.randn(1000, 1))
    last = [entry["estimate"] for entry in mine.history_[-3:]]
    assert mine.mean_of_last_ == pytest.approx(statistics.fmean(last))
    assert mine.spread_ == pytest.approx(statistics.stdev(last))
    positive, negative = torch.randn(estimator.PARTS * 4, 1), torch.randn(estimator.PARTS * 4, 3)
    mine._summarise(training.Scores(positive, negative), mine.history_)
    parts = [
        float(one.mean() - other.exp().mean().log())
        for one, other in zip(positive.split(4), negative.split(4), strict=True)
    ]
    assert mine.estimate_ == pytest.approx(float(positive.mean() - negative.exp().mean().log()), rel=1e-5)
    assert mine.standard_error_ == pytest.approx(statistics.stdev(parts) / math.sqrt(estimator.PARTS), rel=1e-4)


def test_all_numbers_are_in_the_unit_asked_for():
    x = torch.randn(400, 1)
    z, found = x + torch.randn(400, 1), {}
    for unit in ("nats", "bits"):
        found[unit] = MINE(epochs=1, batch_size=20, widths=(16,), evaluations=4, unit=unit).fit(x, z)
    for nats, bits in zip(found["nats"].history_, found["bits"].history_, strict=True):
        for name in ("train", "estimate", "validation"):
            assert nats[name] == pytest.approx(bits[name] * math.log(2))
    for name in ("estimate_", "mean_of_last_", "spread_", "standard_error_", "ceiling_"):
        assert getattr(found["nats"], name) == pytest.approx(getattr(found["bits"], name) * math.log(2))


def test_values_far_from_zero_are_told_apart():
    x, z, truth = gaussians(0.9, 1, 4000)
    times = x.astype(np.float64) + 1.7e9  # of which float32 keeps steps of 128
    found = MINE(steps=250, widths=(64,), learning_rate=1e-2).fit(times, z)
    assert found.estimate_ == pytest.approx(truth, abs=0.12)


def test_the_standard_error_is_that_of_estimates_on_other_pairs():
    x, z, _ = gaussians(0.8, 1, 4000)
    options = {"steps": 60, "widths": (32,), "learning_rate": 1e-2, "patience": None, "evaluations": 1}
    found = [MINE(**options).fit(x, z, *gaussians(0.8, 1, 2000, seed)[:2]) for seed in range(1, 9)]
    spread = np.std([one.estimate_ for one in found], ddof=1)
    assert np.mean([one.standard_error_ for one in found]) == pytest.approx(spread, rel=0.5)


def test_the_convergence_curve_is_drawn(tmp_path):
    x, z, _ = gaussians(0.5, 1, 2000)
    found = MINE(epochs=2, widths=(16,), evaluations=3).fit(x, z)
    axes = found.plot(tmp_path / "curve.png").axes[0]
    assert [len(line.get_xdata()) for line in axes.lines] == [3, 3, 3, 2, 2]
    assert (tmp_path / "curve.png").exists()


def test_progress_goes_from_the_first_to_the_last_step():
    x, z, _ = gaussians(0.5, 1, 1000)
    seen = []
    MINE(steps=4, widths=(8,), evaluations=1, progress=lambda *what: seen.append(what)).fit(x, z)
    assert seen == [("mine", 0.25), ("mine", 0.5), ("mine", 0.75), ("mine", 1.0)]


def test_held_out_negatives_are_those_of_the_final_estimate():
    x, z, _ = gaussians(0.9, 2, 400)
    plain, ten, fifty = (
        MINE(bound="jsd", steps=20, patience=None, held_out_negatives=n).fit(x, z) for n in (None, 10, 50)
    )
    assert plain.history_ == ten.history_ == fifty.history_
    assert plain.estimate_ == ten.estimate_ != fifty.estimate_
    assert (ten.negatives_, fifty.negatives_) == (10, 50)
    test = cut(torch.from_numpy(x), torch.from_numpy(z), 0.2, torch.Generator().manual_seed(0))[0]
    critic = fifty.critic_.double()
    x, z = (
        (side.double() - scale.mean) / scale.scale
        for side, scale in zip(test, (critic.scale_x, critic.scale_z), strict=True)
    )
    table = torch.stack([critic.network(x.roll(-k, 0), z) for k in range(51)])
    expected = table[0].mean() - table[1:].exp().mean().log()
    assert fifty.estimate_ == pytest.approx(float(expected.detach()), abs=1e-4)


def test_other_pairs_are_scored_with_as_many_negatives_as_the_estimate():
    x, z, _ = gaussians(0.9, 2, 400)
    test = gaussians(0.9, 2, 80, seed=1)[:2]
    found = MINE(bound="jsd", held_out_negatives=79, steps=20, patience=None).fit(x, z, *test)
    # All others of the same pairs, so that their order does not matter.
    assert found.negatives_ == 79
    assert found.score(*test) == pytest.approx(found.estimate_, abs=1e-5)


def test_a_contrasting_objective_reports_with_the_negatives_of_a_step():
    x, z, _ = gaussians(0.9, 2, 400)
    found = [MINE(bound="infonce", steps=3, held_out_negatives=n, negatives=7).fit(x, z).estimate_ for n in (None, 50)]
    assert found[0] == found[1]


def test_half_a_test_pair_is_refused():
    x = torch.randn(100, 2)
    with pytest.raises(UserError, match="x_test and z_test come together"):
        MINE().fit(x, x, x_test=x)
