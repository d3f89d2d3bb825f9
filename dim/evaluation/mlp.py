"""The MLP probe of Table 1: one hidden layer of 200 units on frozen features."""

import itertools
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from dim.errors import UserError
from dim.evaluation.features import Standardiser, check_splits, percent, split
from dim.evaluation.schedule import Decay, schedule
from dim.networks.modes import evaluating
from dim.progress import Report, silent

EVALUATION_ROWS = 4096


@dataclass(frozen=True)
class MLPProbe:
    """The probe and its training. The defaults are a short schedule of this project, see `published` for the paper's.

    Batch size and learning rate were chosen on held-out training rows of CIFAR-10 (features of random filters
    with 64, 1024 and 4096 numbers): ten epochs come within about a point of twenty.

    Attributes:
        hidden: units of the hidden layer.
        dropout: probability, applied before batch normalisation as published. Of this and of `weight_decay` several
            may be given, of which each layer's best is chosen.
        decay: "cosine" to zero over all steps, or "steps": times 0.1 at each of `milestones` (epochs).
        standardise: features by the training rows' mean and deviation.
        last: epochs at the end over which `accuracy_last_k` averages.
        validation: share of the training rows held out to choose on, where there is a choice; the chosen probe is
            fitted to all rows.
    """

    hidden: int = 200
    dropout: float | Sequence[float] = 0.1
    epochs: int = 10
    batch_size: int = 256
    learning_rate: float = 3e-3
    betas: tuple[float, float] = (0.5, 0.999)
    weight_decay: float | Sequence[float] = 0.0
    decay: Decay = "cosine"
    milestones: tuple[int, ...] = (50, 100)
    standardise: bool = True
    last: int = 1
    validation: float = 0.0
    seed: int = 0

    @classmethod
    def published(cls, epochs: int = 1000, **changes: Any) -> "MLPProbe":
        """The paper's training: 1000 epochs, the accuracy averaged over the last 100.

        The paper also tuned dropout and weight decay, on the test set; here they stay at 0.1 and 0.
        """
        paper: dict[str, Any] = {
            "epochs": epochs,
            "batch_size": 64,
            "learning_rate": 1e-4,
            "decay": "steps",
            "standardise": False,
            "last": min(100, epochs),
        }
        return cls(**(paper | changes))

    @property
    def choices(self) -> list[dict[str, float]]:
        """Each dropout with each weight decay; a UserError if there is none."""
        sides = [(each,) if isinstance(each, int | float) else each for each in (self.dropout, self.weight_decay)]
        if not all(map(len, sides)):
            raise UserError("mlp: there is no dropout or no weight decay to choose from: give at least one")
        return [{"dropout": dropout, "weight_decay": decay} for dropout, decay in itertools.product(*sides)]


class Net(nn.Module):
    """linear -> dropout -> batch norm -> ReLU -> linear, with a random stream of its own.

    Args:
        features, classes: sizes of input (B, features) and output (B, classes).
    """

    def __init__(
        self, features: int, classes: int, hidden: int, dropout: float, seed: int, device: torch.device
    ) -> None:
        super().__init__()
        self.first = nn.Linear(features, hidden)
        self.norm = nn.BatchNorm1d(hidden)
        self.second = nn.Linear(hidden, classes)
        self.keep = 1 - dropout
        # Drawn on the CPU, so that every device starts from the same weights; PyTorch's default range.
        generator = torch.Generator().manual_seed(seed)
        for layer in (self.first, self.second):
            bound = layer.in_features**-0.5
            nn.init.uniform_(layer.weight, -bound, bound, generator=generator)
            nn.init.uniform_(layer.bias, -bound, bound, generator=generator)
        self.to(device)
        self.generator = torch.Generator(device).manual_seed(seed)

    def forward(self, features: Tensor) -> Tensor:
        """Logits (B, classes)."""
        hidden = self.first(features)
        if self.training and self.keep < 1:
            kept = torch.empty_like(hidden).bernoulli_(self.keep, generator=self.generator)
            hidden = hidden * kept / self.keep
        return self.second(functional.relu(self.norm(hidden)))


class Fitting:
    """A probe while it is being fitted: net, optimiser, learning rate, the sum of its losses."""

    def __init__(
        self, probe: MLPProbe, choice: Mapping[str, float], features: Tensor, classes: int, steps: int
    ) -> None:
        device = features.device
        self.features = features.detach()
        self.standardiser = Standardiser.fit(self.features) if probe.standardise else None
        self.net = Net(features.shape[1], classes, probe.hidden, choice["dropout"], probe.seed, device)
        self.optimiser = torch.optim.Adam(
            self.net.parameters(),
            probe.learning_rate,
            probe.betas,
            weight_decay=choice["weight_decay"],
            fused=device.type in ("cpu", "cuda"),
        )
        self.scheduler = schedule(self.optimiser, probe.decay, probe.milestones, probe.epochs, steps)
        self.loss = torch.zeros((), device=device)

    def prepared(self, features: Tensor) -> Tensor:
        """A batch as the net sees it."""
        return self.standardiser(features) if self.standardiser else features

    def step(self, rows: Tensor, labels: Tensor) -> None:
        """One Adam step on a batch of row numbers."""
        loss = functional.cross_entropy(self.net(self.prepared(self.features[rows])), labels)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self.optimiser.step()
        self.scheduler.step()
        self.loss += loss.detach()

    def accuracy(self, features: Tensor, labels: Tensor) -> float:
        """Accuracy in percent in evaluation mode."""
        with evaluating(self.net):
            parts = [self.net(self.prepared(part)).argmax(1) for part in features.split(EVALUATION_ROWS)]
        return percent(torch.cat(parts), labels)


QUICK = MLPProbe()


def mlp(
    train_features: Tensor,
    train_labels: Tensor,
    test_features: Tensor,
    test_labels: Tensor,
    probe: MLPProbe = QUICK,
    progress: Report = silent,
) -> dict[str, Any]:
    """An MLP probe of one layer.

    Args:
        train_features, test_features: (N, D) float32 on one device.
        train_labels, test_labels: (N,) int64 from 0 upwards.

    Returns:
        `accuracy` on the test rows after the last epoch; `accuracy_last_k`, the mean over the last
        `probe.last` epochs (the paper's way); `test_accuracies` and `train_losses` (nats) of every epoch; where there
        was a choice, the chosen `dropout` and `weight_decay` and all that were `tried`, with their accuracy on the
        held-out training rows. Percent.

    Raises:
        UserError: wrong types or shapes, no epochs, fewer than two training rows, a choice without rows to make it on.
    """
    if probe.epochs < 1 or not 1 <= probe.last <= probe.epochs:
        raise UserError(f"mlp: need epochs >= last >= 1, found epochs {probe.epochs}, last {probe.last}")
    check_splits("mlp", train_features, train_labels, test_features, test_labels)
    data = train_features, train_labels, test_features, test_labels
    if len(choices := probe.choices) == 1:
        return _fit(*data, probe, choices[0], lambda share: progress("mlp", share))
    tried = _try(train_features, train_labels, probe, progress)
    best = max(tried, key=lambda one: one["accuracy"])
    choice = {name: best[name] for name in choices[0]}
    return {**_fit(*data, probe, choice, lambda share: progress("mlp", share)), **choice, "tried": tried}


def _try(features: Tensor, labels: Tensor, probe: MLPProbe, progress: Report) -> list[dict[str, float]]:
    """Each choice, with the accuracy on held-out rows of a probe fitted to the others."""
    kept, held = (rows.to(labels.device) for rows in split(len(labels), probe.validation, probe.seed))
    data = features[kept], labels[kept], features[held], labels[held]
    tried = []
    for number, choice in enumerate(probe.choices):

        def report(share: float, before: int = number) -> None:
            progress("mlp: choosing dropout and decay", (before + share) / len(probe.choices))

        tried.append({**choice, "accuracy": _fit(*data, probe, choice, report)["accuracy_last_k"]})
    return tried


def _fit(
    train_features: Tensor,
    train_labels: Tensor,
    test_features: Tensor,
    test_labels: Tensor,
    probe: MLPProbe,
    choice: Mapping[str, float],
    report: Callable[[float], None],
) -> dict[str, Any]:
    """The results of `mlp` for one choice of dropout and weight decay."""
    rows = len(train_labels)
    if rows < 2:
        raise UserError("mlp: batch normalisation needs at least two training rows")
    batch = min(probe.batch_size, rows)
    steps, classes = rows // batch, int(train_labels.max()) + 1
    fitting = Fitting(probe, choice, train_features, classes, steps)
    order = torch.Generator().manual_seed(probe.seed)
    losses, accuracies = [], []
    for epoch in range(probe.epochs):
        shuffled = torch.randperm(rows, generator=order).to(train_labels.device)
        for step in range(steps):
            chosen = shuffled[step * batch : (step + 1) * batch]
            fitting.step(chosen, train_labels[chosen])
            report((epoch + (step + 1) / steps) / probe.epochs)
        losses.append(fitting.loss.item() / steps)
        fitting.loss.zero_()
        accuracies.append(fitting.accuracy(test_features, test_labels))
    return {
        "accuracy": accuracies[-1],
        "accuracy_last_k": statistics.fmean(accuracies[-probe.last :]),
        "test_accuracies": accuracies,
        "train_losses": losses,
    }
