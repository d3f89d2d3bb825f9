"""What holds for all shapes, sizes, number types and scores: objectives, and the pairs that critics score."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dim.contrast import contrast
from dim.networks.critics import GlobalConcatCritic, GlobalDotCritic, LocalConcatCritic, LocalDotCritic
from dim.objectives import OBJECTIVES

LOG_DOMAIN = ("dv", "jsd", "infonce", "js", "smile")
BOUNDED_BY_CHANCE = ("dv", "infonce", "nwj", "kl", "js", "tuba")
"""Estimates that are at most 0 where positives and negatives are the same scores."""
LARGEST = 1e6
sizes = st.integers(1, 6)
dtypes = st.sampled_from([torch.float64, torch.float32, torch.bfloat16, torch.float16])
quick = settings(max_examples=30, deadline=None, derandomize=True)


@st.composite
def scores(draw, largest=LARGEST, dtypes=dtypes):
    """Positive (N, P), negative (N, K) and a baseline (N, 1)."""
    rows, dtype = draw(sizes), draw(dtypes)
    largest = min(largest, 6e4) if dtype == torch.float16 else largest
    number = st.floats(-largest, largest, width=64)
    shapes = (rows, draw(sizes)), (rows, draw(st.integers(2, 6)))
    parts = [torch.tensor(draw(st.lists(number, min_size=n * m, max_size=n * m))).view(n, m) for n, m in shapes]
    baseline = torch.zeros(rows, 1)
    return [part.to(dtype).requires_grad_() for part in (*parts, baseline)]


def value(name, positive, negative, baseline):
    objective = OBJECTIVES[name]
    return objective(positive, negative, *([baseline] if objective.takes_baseline else []))


@pytest.mark.parametrize("name", LOG_DOMAIN)
@given(given_scores=scores())
@quick
def test_log_domain_objectives_are_finite_for_any_score(name, given_scores):
    positive, negative, baseline = given_scores
    result = value(name, positive, negative, baseline)
    result.backward()
    assert result.isfinite()
    assert positive.grad.isfinite().all()
    assert negative.grad.isfinite().all()


@pytest.mark.parametrize("name", sorted(set(OBJECTIVES) - set(LOG_DOMAIN)))
@given(given_scores=scores())
@quick
def test_the_others_are_finite_or_reach_the_guard(name, given_scores):
    # A loss that overflows is infinite or NaN, which stops the run: it never turns into a large finite lie.
    positive, negative, baseline = given_scores
    exact = value(name, positive.detach().double(), negative.detach().double(), baseline.detach().double())
    result = value(name, positive, negative, baseline)
    if result.isfinite():
        largest = max(1.0, float(positive.abs().max()), float(negative.abs().max()))
        tolerance = 1e-5 * (largest**2 if name == "chi2" else largest)
        torch.testing.assert_close(result.double(), exact, rtol=1e-3, atol=tolerance)


@pytest.mark.parametrize("name", OBJECTIVES)
@given(given_scores=scores(5.0, st.just(torch.float64)), seed=st.integers(0, 99))
@quick
def test_the_order_of_rows_and_of_negatives_does_not_matter(name, given_scores, seed):
    positive, negative, baseline = (part.detach() for part in given_scores)
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randperm(len(positive), generator=generator)
    columns = torch.randperm(negative.shape[1], generator=generator)
    if name == "interpolated":  # its positives are averaged with all negatives but the first
        columns = columns.sort().values
    moved = value(name, positive[rows], negative[rows][:, columns], baseline[rows])
    torch.testing.assert_close(moved, value(name, positive, negative, baseline), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", BOUNDED_BY_CHANCE)
@given(given_scores=scores(5.0, st.just(torch.float64)))
@quick
def test_nothing_is_certified_where_pairs_are_alike(name, given_scores):
    _, negative, baseline = (part.detach() for part in given_scores)
    objective = OBJECTIVES[name]
    # A positive that is the mean of its row is no likelier than its negatives: Jensen.
    alike = negative.mean(1, keepdim=True)
    estimate = objective.estimate(alike, negative, baseline if objective.takes_baseline else None)
    assert estimate <= 1e-9


@pytest.mark.parametrize("critic", [GlobalConcatCritic, GlobalDotCritic, LocalConcatCritic, LocalDotCritic])
@given(
    images=st.integers(2, 5),
    side=st.integers(4, 5),
    channels=st.integers(1, 6),
    code=st.integers(1, 5),
    units=st.integers(6, 9),
    drawn=st.booleans(),
    dtype=st.sampled_from([torch.float64, torch.float32]),
)
@settings(max_examples=10, deadline=None, derandomize=True)
def test_critics_score_every_pair_once(critic, images, side, channels, code, units, drawn, dtype):
    torch.manual_seed(0)
    shapes = {"local": (channels, side, side), "conv": (channels, side, side)}
    network = critic(shapes, code, units).to(dtype)
    maps, y = torch.randn(images, channels, side, side, dtype=dtype), torch.randn(images, code, dtype=dtype)
    negatives = images - 1 if drawn else None
    positive, negative = contrast(network, y, maps, negatives, generator=torch.Generator().manual_seed(1))
    positions = side * side if "Local" in critic.__name__ else 1
    if drawn:
        assert positive.shape == (images * positions, 1)
        assert negative.shape == (images * positions, images - 1)
    else:
        assert positive.shape == (images, positions)
        assert negative.shape == (images, (images - 1) * positions)
    # All drawn, each other image comes once: the scores are those of all pairs, but at one's own position only.
    whole = contrast(network, y, maps)
    torch.testing.assert_close(positive.flatten(), whole.positive.flatten(), rtol=1e-4, atol=1e-4)
    if drawn and positions == 1:
        same = [negative.sort(1).values, whole.negative.sort(1).values]
        torch.testing.assert_close(*same, rtol=1e-4, atol=1e-4)
