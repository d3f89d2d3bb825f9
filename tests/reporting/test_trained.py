import torch

from dim.data.dataset import Split
from dim.reporting.trained import flat_map, nearest, one_of_each_class, prior_of


def test_nearest_are_those_of_the_smallest_l1_distance_without_the_query():
    codes = torch.randn(40, 5, dtype=torch.float64)
    found = nearest(codes, [3, 7], 4)
    for query, rows in zip([3, 7], found.tolist(), strict=True):
        distances = (codes - codes[query]).abs().sum(1)
        order = [row for row in distances.argsort().tolist() if row != query]
        assert rows == order[:4]
    assert nearest(codes[:3], [1], 8).shape == (1, 2)


def test_queries_are_the_first_of_their_classes():
    split = Split(torch.zeros(5, 3, 2, 2, dtype=torch.uint8), torch.tensor([2, 0, 2, 1, 0]))
    assert one_of_each_class(split, 8) == [1, 3, 0]
    assert one_of_each_class(split, 2) == [1, 3]


def test_priors_are_those_that_were_trained_with():
    def prior(model, **options):
        return prior_of({"run": {"model": model}, "hyper_parameters": options})

    assert prior("DeepInfoMax", gamma=0.1, prior="uniform") == "uniform"
    assert prior("DeepInfoMax", gamma=0.0, prior="uniform") is None
    assert prior("AdversarialAutoencoder", prior="ball") == "ball"
    assert prior("Autoencoder", kl_weight=0.5) == "gaussian"
    assert prior("Autoencoder", kl_weight=0.0) is None
    assert prior("NoiseAsTargets", period=2) == "sphere"
    assert prior("BiGAN") == "gaussian"
    assert prior("Supervised") is None


def test_a_map_keeps_two_clusters_apart():
    codes = torch.cat([torch.randn(20, 4), torch.randn(20, 4) + 50])
    places = flat_map(codes)
    assert places.shape == (40, 2)
    assert abs(places[:20].mean(0) - places[20:].mean(0)).max() > places[:20].std()
