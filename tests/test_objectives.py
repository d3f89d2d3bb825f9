import math

import numpy as np
import pytest
import torch

from dim import objectives
from dim.errors import UserError
from dim.objectives import OBJECTIVES

N, P, K = 5, 3, 7


def lme(values):
    return torch.log(torch.exp(values).mean())


def nwj(positive, negative):
    return positive.mean() - torch.exp(negative - 1).mean()


def jsd(positive, negative):
    return torch.log(torch.sigmoid(positive)).mean() + torch.log(1 - torch.sigmoid(negative)).mean()


def infonce(positive, negative):
    terms = []
    for i in range(len(positive)):
        for p in positive[i]:
            terms.append(torch.log(torch.exp(p) / (torch.exp(p) + torch.exp(negative[i]).sum())))
    return torch.stack(terms).mean()


def tuba(positive, negative, log_baseline):
    a = torch.exp(log_baseline)
    return 1 + torch.log(torch.exp(positive) / a).mean() - (torch.exp(negative) / a).mean()


def interpolated(positive, negative, log_baseline):
    alpha, a, k = objectives.INTERPOLATION, torch.exp(log_baseline[:, 0]), negative.shape[1]
    first, second = [], []
    for i in range(len(positive)):
        for p in positive[i]:
            mean = (torch.exp(p) + torch.exp(negative[i, 1:]).sum()) / k
            first.append(torch.log(torch.exp(p) / (alpha * mean + (1 - alpha) * a[i])))
        mean = torch.exp(negative[i]).mean()
        second.append((torch.exp(negative[i]) / (alpha * mean + (1 - alpha) * a[i])).mean())
    return 1 + torch.stack(first).mean() - torch.stack(second).mean()


DEFINITIONS = {
    "dv": lambda p, n: p.mean() - lme(n),
    "jsd": jsd,
    "infonce": infonce,
    "nwj": nwj,
    "kl": nwj,
    "reverse_kl": lambda p, n: (-torch.exp(-p)).mean() - (n - 1).mean(),
    "hellinger": lambda p, n: (1 - torch.exp(-p)).mean() - (torch.exp(n) - 1).mean(),
    "chi2": lambda p, n: p.mean() - (n**2 / 4 + n).mean(),
    "tuba": tuba,
    "interpolated": interpolated,
    "js": jsd,
    "smile": jsd,
}
ESTIMATES = {
    "dv": DEFINITIONS["dv"],
    "infonce": lambda p, n: infonce(p, n) + math.log(1 + n.shape[1]),
    "nwj": nwj,
    "kl": nwj,
    "tuba": tuba,
    "interpolated": interpolated,
    "js": lambda p, n: nwj(p + 1, n + 1),
    "smile": lambda p, n: p.mean() - lme(n.clamp(-5, 5)),
}


def scores(scale=2.0):
    generator = torch.Generator().manual_seed(3)
    positive = torch.randn(N, P, generator=generator, dtype=torch.float64) * scale + 1
    negative = torch.randn(N, K, generator=generator, dtype=torch.float64) * scale * 2
    return positive.requires_grad_(), negative.requires_grad_()


def arguments(objective):
    positive, negative = scores()
    baseline = torch.linspace(-1, 1, N, dtype=torch.float64)[:, None].requires_grad_()
    return (positive, negative, baseline) if objective.takes_baseline else (positive, negative)


def test_every_objective_has_a_definition_here():
    assert set(DEFINITIONS) == set(OBJECTIVES)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_value_and_gradient_are_the_definition_s(name):
    objective = OBJECTIVES[name]
    given = arguments(objective)
    value, expected = objective(*given), DEFINITIONS[name](*given)
    torch.testing.assert_close(value, expected, rtol=1e-12, atol=1e-12)
    gradients = torch.autograd.grad(value, given)
    for gradient, reference in zip(gradients, torch.autograd.grad(expected, given), strict=True):
        torch.testing.assert_close(gradient, reference, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", ["dv", "infonce", "interpolated"])
def test_log_sum_exps_can_be_differentiated_twice(name):
    given = arguments(OBJECTIVES[name])
    seconds = []
    for function in (OBJECTIVES[name], DEFINITIONS[name]):
        gradients = torch.autograd.grad(function(*given), given, create_graph=True)
        penalty = sum(gradient.square().sum() for gradient in gradients)
        seconds.append(torch.autograd.grad(penalty, given[1])[0])
    torch.testing.assert_close(*seconds, rtol=1e-9, atol=1e-12)
    assert seconds[0].abs().max() > 1e-6


@pytest.mark.parametrize("name", OBJECTIVES)
def test_estimate_is_the_definition_s_or_none(name):
    objective = OBJECTIVES[name]
    given = arguments(objective)
    estimate = objective.estimate(*given)
    if name not in ESTIMATES:
        assert estimate is None
    else:
        torch.testing.assert_close(estimate, ESTIMATES[name](*given), rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(objective.estimate(*given, value=objective(*given)), estimate, rtol=0, atol=0)


def test_infonce_is_the_full_softmax_over_one_positive_and_all_negatives():
    n, length, units = 6, 4, 8
    generator = torch.Generator().manual_seed(0)
    queries = torch.randn(n, units, generator=generator, dtype=torch.float64, requires_grad=True)
    keys = torch.randn(n, length, units, generator=generator, dtype=torch.float64)
    pairs = torch.einsum("iu,jlu->ijl", queries, keys)
    others = ~torch.eye(n, dtype=torch.bool)
    logits = torch.stack(
        [
            torch.cat([pairs[i, i, position][None], pairs[i][others[i]].flatten()])
            for i in range(n)
            for position in range(length)
        ]
    )
    assert logits.shape == (n * length, 1 + (n - 1) * length)
    full = -torch.nn.functional.cross_entropy(logits, torch.zeros(n * length, dtype=torch.int64))
    negative = torch.stack([pairs[i][others[i]].flatten() for i in range(n)])
    lean = objectives.infonce(torch.stack([pairs[i, i] for i in range(n)]), negative)
    torch.testing.assert_close(lean, full, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(
        *(torch.autograd.grad(value, queries, retain_graph=True)[0] for value in (lean, full)),
        rtol=1e-10,
        atol=1e-12,
    )


@pytest.mark.parametrize("name", ["dv", "jsd", "infonce", "js", "smile", "chi2"])
@pytest.mark.parametrize("sign", [1, -1])
def test_log_domain_objectives_stay_finite(name, sign):
    positive, negative = (values.detach().float().mul_(sign * 1e4).requires_grad_() for values in scores())
    value = OBJECTIVES[name](positive, negative)
    value.backward()
    assert value.isfinite()
    assert positive.grad.isfinite().all()
    assert negative.grad.isfinite().all()


@pytest.mark.parametrize("name", ["nwj", "kl", "hellinger", "tuba"])
def test_exponential_objectives_overflow_rather_than_clamp(name):
    positive, negative = torch.zeros(2, 2), torch.full((2, 3), 1e4)
    baseline = (torch.zeros(2, 1),) if OBJECTIVES[name].takes_baseline else ()
    assert not OBJECTIVES[name](positive, negative, *baseline).isfinite()


def test_half_precision_scores_are_summed_in_float32():
    positive, negative = (values.detach() for values in scores())
    for name in ("dv", "jsd", "infonce"):
        half = OBJECTIVES[name](positive.bfloat16(), negative.bfloat16())
        assert half.dtype == torch.float32
        rounded = OBJECTIVES[name](positive.bfloat16().double(), negative.bfloat16().double())
        torch.testing.assert_close(half.double(), rounded, rtol=1e-6, atol=1e-6)


def test_bounds_reach_the_mutual_information_of_gaussians_with_the_optimal_critic():
    rho, n = 0.8, 2000
    rng = np.random.default_rng(0)
    x = rng.standard_normal(n)
    z = rho * x + math.sqrt(1 - rho**2) * rng.standard_normal(n)

    def log_ratio(a, b):
        joint = -(a**2 - 2 * rho * a * b + b**2) / (2 * (1 - rho**2)) - 0.5 * math.log(1 - rho**2)
        return joint + (a**2 + b**2) / 2

    truth = -0.5 * math.log(1 - rho**2)
    pairs = torch.tensor(log_ratio(x[:, None], z[None]))
    positive = pairs.diagonal()[:, None]
    negative = pairs.flatten()[:-1].view(n - 1, n + 1)[:, 1:].reshape(n, n - 1)
    shift = {"nwj": 1.0, "kl": 1.0}
    for name in ("dv", "nwj", "kl", "js", "infonce", "smile"):
        estimate = OBJECTIVES[name].estimate(positive + shift.get(name, 0), negative + shift.get(name, 0))
        assert float(estimate) == pytest.approx(truth, abs=0.05), name


def test_infonce_cannot_exceed_the_logarithm_of_its_classes():
    estimate = objectives.infonce.estimate(torch.full((4, 2), 50.0), torch.zeros(4, 9))
    assert float(estimate) == pytest.approx(math.log(10), abs=1e-5)


def test_scores_of_the_wrong_shape_are_refused():
    with pytest.raises(ValueError, match=r"\(N, P\) and \(N, K\)"):
        objectives.jsd(torch.zeros(3), torch.zeros(3, 2))
    with pytest.raises(ValueError, match="needs log_baseline"):
        objectives.tuba(torch.zeros(3, 1), torch.zeros(3, 2))


def test_an_estimate_of_scores_alone_belongs_to_an_objective_with_a_baseline(monkeypatch):
    monkeypatch.setattr(objectives, "OBJECTIVES", {})

    @objectives.objective
    def own(positive, negative, log_baseline):
        return positive.mean() - negative.mean() + log_baseline.mean()

    @own.estimator
    def gap(positive, negative):
        return positive.mean() - negative.mean()

    scores = torch.ones(3, 1), torch.zeros(3, 2), torch.full((3, 1), 2.0)
    assert own(*scores) == 3
    assert own.estimate(*scores) == 1


@pytest.mark.parametrize("name", [name for name in OBJECTIVES if OBJECTIVES[name].takes_baseline])
def test_a_baseline_of_another_shape_is_refused(name):
    positive, negative = torch.randn(8, 1), torch.randn(8, 8)
    OBJECTIVES[name](positive, negative, torch.zeros(1, 1))
    for shape in ((8,), (1, 8), (8, 8)):
        with pytest.raises(ValueError, match=rf"{name} needs log_baseline, \(8, 1\), got"):
            OBJECTIVES[name](positive, negative, torch.zeros(shape))


def test_no_name_of_an_objective_is_taken_twice():
    def dv(positive, negative):
        return positive.mean()

    before = OBJECTIVES["dv"]
    with pytest.raises(UserError, match="an objective 'dv' already"):
        objectives.objective(dv)
    assert OBJECTIVES["dv"] is before
