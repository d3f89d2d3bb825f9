import pytest
import torch

from dim.mine import networks
from dim.mine.networks import statistics_network


def table(network, queries, keys, negatives):
    """Rows of scores by the plain definition, pair by pair."""
    return torch.stack(
        [
            torch.cat([network.rows(queries[i : i + 1], keys[i + k : i + k + 1])[0] for k in range(negatives + 1)])
            for i in range(len(queries))
        ]
    )


@pytest.mark.parametrize("name", ["concat", "separable"])
@pytest.mark.parametrize("negatives", [0, 1, 70])
@pytest.mark.parametrize("kept", [0, 10_000])
def test_rows_are_pairs_with_the_following_keys(name, negatives, kept, monkeypatch):
    monkeypatch.setattr(networks, "PAIRS_AT_ONCE", 150)
    monkeypatch.setattr(networks, "PAIRS_KEPT", kept)
    torch.manual_seed(0)
    network = statistics_network(name, (3,), 2, (8, 8), 4).double()
    queries = network.queries(torch.randn(75, 2).double()).detach().requires_grad_()
    keys = network.keys(torch.randn(75 + negatives, 3).double()).detach().requires_grad_()
    weights = torch.randn(75, 1 + negatives).double()
    plain = torch.autograd.grad((table(network, queries, keys, negatives) * weights).sum(), [queries, keys])
    rows = network.rows(queries, keys)
    torch.testing.assert_close(rows, table(network, queries, keys, negatives))
    torch.testing.assert_close(torch.autograd.grad((rows * weights).sum(), [queries, keys]), plain)
    with torch.no_grad():
        torch.testing.assert_close(network.rows(queries, keys), rows)


def test_concatenation_is_one_perceptron_on_x_joined_with_z():
    torch.manual_seed(0)
    network = statistics_network("concat", (3,), 2, (8,), 4)
    x, z = torch.randn(5, 3), torch.randn(5, 2)
    joint = network.rest(network.joint(torch.cat([x, z], 1))).squeeze(1)
    torch.testing.assert_close(network(x, z), joint)


@pytest.mark.parametrize("name", ["concat", "separable"])
def test_images_are_scored(name):
    network = statistics_network(name, (1, 16, 16), 2, (8,), 4)
    assert network(torch.randn(5, 1, 16, 16), torch.randn(5, 2)).shape == (5,)
