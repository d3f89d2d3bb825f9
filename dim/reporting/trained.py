"""Finished runs with their encoders: what they make of test images."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dim.adversarial import Prior
from dim.checkpoints import FOLDER, LAST, encoder_from, read_checkpoint
from dim.data.dataset import Split
from dim.errors import UserError
from dim.files import sha256
from dim.networks.encoders import Encoder
from dim.reporting.views import DATA


@dataclass(frozen=True)
class Trained:
    """A finished run that a result belongs to."""

    label: str
    data: str
    budget: str
    folder: Path
    provenance: dict[str, Any]

    @property
    def title(self) -> str:
        return f"{self.label}, {DATA.get(self.data, self.data)}, {self.budget} budget"

    @property
    def key(self) -> str:
        """A name for its pictures."""
        return f"{self.data}-{self.budget}-{self.folder.parent.name}-{self.folder.name}"

    @property
    def checkpoint(self) -> str:
        """SHA-256 of its checkpoint."""
        return self.provenance["checkpoint_sha256"]

    def read(self) -> tuple[Encoder, dict[str, Any]]:
        """Its encoder in evaluation mode, and its checkpoint."""
        content = read_checkpoint(self.folder)
        return encoder_from(content, self.folder), content


def trained(contents: Sequence[dict[str, Any]], runs: Path) -> list[Trained]:
    """The finished runs of the results (seed by seed the first), as far as `runs` still holds the same checkpoints."""
    found: dict[Path, Trained] = {}
    for content in contents:
        data, budget = content["data"], content["budget"]["name"]
        for row in content["rows"]:
            seed = next((seed for seed in row["seeds"] if seed["cells"]), None)
            if seed is None:
                continue
            folder = runs / budget / data / row["name"] / f"seed{seed['seed']}"
            run = Trained(row["row"], data, budget, folder, seed["provenance"])
            last = folder / FOLDER / LAST
            if folder not in found and last.is_file() and sha256(last) == run.checkpoint:
                found[folder] = run
    return list(found.values())


def prior_of(checkpoint: dict[str, Any]) -> Prior | None:
    """The prior that a checkpoint's code was matched to, and None where there is none."""
    model, options = checkpoint["run"]["model"], checkpoint["hyper_parameters"]
    if model in ("DeepInfoMax", "AdversarialAutoencoder"):
        return options["prior"] if options.get("gamma", 1.0) else None
    if model == "Autoencoder":
        return "gaussian" if options["kl_weight"] else None
    others: dict[str, Prior] = {"BiGAN": "gaussian", "NoiseAsTargets": "sphere"}
    return others.get(model)


def nearest(codes: Tensor, queries: Sequence[int], count: int) -> Tensor:
    """Rows of the `count` codes nearest to each query (rows of `codes`) in L1 distance, itself left out.

    Args:
        codes: (N, Y).

    Returns:
        (queries, count) int64; fewer where there are no more.
    """
    distances = torch.cdist(codes[list(queries)], codes, p=1)
    distances[range(len(queries)), list(queries)] = torch.inf
    return distances.topk(min(count, len(codes) - 1), largest=False).indices


def one_of_each_class(split: Split, count: int) -> list[int]:
    """Rows of the first image of each of the first `count` classes."""
    labels = split.labels.tolist()
    return [labels.index(label) for label in sorted(set(labels))[:count]]


def flat_map(codes: Tensor, seed: int = 0) -> np.ndarray:
    """t-SNE of codes (N, Y): (N, 2).

    Raises:
        UserError: a single code has no map.
    """
    if len(codes) < 2:
        raise UserError("a map of codes needs at least two images")
    from sklearn.manifold import TSNE

    perplexity = min(30.0, (len(codes) - 1) / 3)
    return TSNE(2, perplexity=perplexity, init="pca", random_state=seed).fit_transform(codes.numpy())
