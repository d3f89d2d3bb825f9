"""Figures of what encoders make of test images."""

from collections.abc import Sequence

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from dim.adversarial import Prior, sample_prior, to_prior_domain
from dim.data.dataset import Split
from dim.plots import figure
from dim.reporting.trained import flat_map, nearest, one_of_each_class

CLASSES = 10
"""Colours that can be told apart."""


def neighbours(split: Split, codes: Tensor, classes: Sequence[str], queries: int = 8, count: int = 8) -> Figure:
    """Test images (left) and the test images whose codes (N, Y) are nearest to theirs; frames: the same class."""
    chosen = one_of_each_class(split, queries)
    found = nearest(codes, chosen, count)
    count = found.shape[1]
    made, axes = figure(len(chosen), count + 1, 0.75, 0.8)
    for place, (query, rows) in enumerate(zip(chosen, found.tolist(), strict=True)):
        for axis, row in zip(axes[place * (count + 1) :], [query, *rows], strict=False):
            axis.imshow(split.images[row].permute(1, 2, 0).cpu().numpy())
            axis.set(xticks=[], yticks=[])
            same = row != query and split.labels[row] == split.labels[query]
            for spine in axis.spines.values():
                spine.set(color="#009e73" if same else "#ffffff", linewidth=2.5)
        first = axes[place * (count + 1)]
        first.set_ylabel(classes[int(split.labels[query])], fontsize=6, rotation=0, ha="right", va="center")
    return made


def code_map(split: Split, codes: Tensor, classes: Sequence[str]) -> Figure:
    """t-SNE of the codes (N, Y) of test images, coloured by class (the first ten)."""
    shown = split.labels < CLASSES
    places, labels = flat_map(codes[shown]), split.labels[shown].numpy()
    made, (axis,) = figure(width=5.2, height=3.9)
    for label in sorted(set(labels.tolist())):
        x, y = places[labels == label].T
        axis.scatter(x, y, s=6, color=f"C{label}", label=classes[label], linewidths=0)
    axis.set(xticks=[], yticks=[])
    axis.legend(fontsize=7, markerscale=2, loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    return made


def code_histogram(codes: Tensor, prior: Prior) -> Figure:
    """Distribution of the code's numbers, where the prior lives, beside the prior's.

    The line is the mean of the features' own histograms, the band their 10 to 90 % quantiles.

    Args:
        codes: (N, Y), linear.
    """
    mapped = to_prior_domain(prior, codes).numpy()
    samples = sample_prior(prior, max(20_000, len(codes)), codes.shape[1], torch.Generator().manual_seed(0)).numpy()
    low, high = (0.0, 1.0) if prior == "uniform" else np.quantile(np.concatenate([mapped, samples]), [0.001, 0.999])
    edges = np.linspace(low, high, 31)
    middles = (edges[1:] + edges[:-1]) / 2
    densities = np.stack([_density(feature, edges) for feature in mapped.T])
    made, (axis,) = figure(width=4.4, height=3.0)
    axis.fill_between(middles, *np.quantile(densities, [0.1, 0.9], axis=0), color="#0072b2", alpha=0.2, linewidth=0)
    axis.plot(middles, densities.mean(0), color="#0072b2", label=f"codes, {len(codes)} test images")
    expected = np.ones(30) if prior == "uniform" else _density(samples.ravel(), edges)
    axis.plot(middles, expected, "--", color="#333333", label=f"prior: {prior}")
    axis.set(xlabel="a number of Y" + (" after the sigmoid" if prior == "uniform" else ""), ylabel="density", ylim=0)
    axis.legend(fontsize=7)
    return made


def _density(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    counts, _ = np.histogram(values, edges)
    return counts / len(values) / np.diff(edges)
