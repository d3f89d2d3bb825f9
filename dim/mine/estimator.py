"""An estimator of mutual information: options first, then `fit`, then numbers in attributes that end in `_`."""

import contextlib
import dataclasses
import itertools
import math
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import torch
from sklearn.base import BaseEstimator
from torch import Tensor

from dim.errors import UserError, at_least, positive
from dim.extensions import ObjectiveName
from dim.mine import training
from dim.mine.doubt import warn_of_doubt
from dim.mine.inputs import Scale, as_pairs, cut, ordered
from dim.mine.networks import CriticName, perceptron, statistics_network
from dim.objectives import OBJECTIVES, Objective
from dim.progress import Report, bars, silent

NATS_PER_BIT = math.log(2)
HELD_OUT_NEGATIVES = {"concat": 10, "separable": 500}
"""Other x for each held-out z where the objective does not count them: more make the mean of e^T more exact."""
CURVE_PAIRS = 10_000
"""Held-out pairs of a point of the convergence curve; the estimate itself takes all."""
TRY = ": try bound smile or infonce"
PARTS = 10
"""Disjoint parts of the held-out pairs whose estimates' spread gives the standard error."""


class DivergenceError(UserError):
    """An estimate that is not finite."""


@dataclasses.dataclass(eq=False, repr=False)
class MINE(BaseEstimator):
    """Mutual information I(X; Z) by training a critic; `fit(x, z)` then `estimate_`, as scikit-learn's estimators.

    The estimate comes from pairs that were held out of training, and of the choice when to stop. For nwj (kl), js,
    tuba, interpolated and infonce it is a lower bound in expectation. DV is a bound of the whole population only: the
    logarithm of a mean over scores is too small on average, which shows once e^I is not small against their number. A
    bound from n pairs cannot certify much more than log n nats (McAllester and Stratos 2020), which `ceiling_` holds.

    Args:
        bound: objective that trains the critic; dv uses the moving average of the MINE paper in its gradient.
        report: objective that reports; by default the one that trains, or dv where that has no estimate. A critic of
            dv is known up to a constant, which nwj, kl, js and smile would take for information, one of infonce up to
            a constant for each z, which dv would, too.
        critic: concat joins x and z (MINE's); separable is a dot product of embeddings.
        widths: hidden widths of the critic on vectors (images use the lab's convolutional critic).
        units: size of a separable critic's embeddings.
        negatives: other x of the batch that each z is scored with in a step; by default one, or all of them for a
            separable critic and for objectives that contrast each row (infonce, interpolated).
        held_out_negatives: the same for the final estimate, by default 10, 500 for a separable critic. Even with a
            perfect critic DV's log mean e^T over N scores of Gaussian pairs deviates by e^I / sqrt(N). A contrasting
            objective takes as many as in a step.
        epochs: passes over the training pairs.
        steps: number of steps, instead of epochs.
        batch_size: pairs a step.
        learning_rate: of Adam at the start; it decays to zero along a cosine.
        held_out: share of the pairs that is kept for the estimate.
        validation: share of the other pairs that is kept to choose the step to stop at.
        patience: stop after so many evaluations without a better validation estimate, and take the critic of the
            best one; None trains to the end, on the validation pairs as well.
        evaluations: evaluations along the way; the last ones give the spread.
        unit: nats or bits.
        seed: of everything that is drawn.
        device: where to compute; by default where x is.
        progress: True shows a bar; or a function, called with a description and the fraction done.

    Attributes:
        estimate_: mutual information in `unit`, from the held-out pairs.
        standard_error_: of the held-out estimate given the critic, from the spread over ten parts of the pairs. Too
            small once e^(2I) is not small against the number of scores: the rare ones that would make log mean e^T
            larger are in no part.
        spread_: standard deviation over the last quarter of the evaluations, up to the critic that was kept. Small at
            the end of any training whose rate has come to 0, of a wrong estimate, too.
        mean_of_last_: mean over them.
        history_: epoch, step, estimate (on at most 10,000 held-out pairs), training estimate and, with patience,
            validation estimate of each evaluation. The training estimate is the mean of those of single batches, of
            which each is too large for dv: by 0.2 nat for 128 scores of 20 Gaussian components with 2.9 nats.
        ceiling_: log of the number of held-out pairs, in `unit`; for infonce log(1 + negatives), where that is less.
        negatives_: other x that each held-out z was scored with; `score` takes as many.
        critic_: the trained critic.
    """

    bound: ObjectiveName = "dv"
    report: ObjectiveName | None = None
    critic: CriticName = "concat"
    widths: tuple[int, ...] = (512, 512)
    units: int = 64
    negatives: int | None = None
    held_out_negatives: int | None = None
    epochs: float = 50
    steps: int | None = None
    batch_size: int = 512
    learning_rate: float = 1e-3
    held_out: float = 0.2
    validation: float = 0.1
    patience: int | None = 5
    evaluations: int = 20
    unit: Literal["nats", "bits"] = "nats"
    seed: int = 0
    device: str | torch.device | None = None
    progress: Report | bool | None = None

    def fit(self, x: Any, z: Any, x_test: Any = None, z_test: Any = None) -> "MINE":
        """Trains on pairs (x, z), arrays or tensors of equal length; x may be images (n, C, S, S), uint8 or [-1, 1].

        The estimate is taken on `x_test`, `z_test` if given, else on a held-out share.

        Raises:
            UserError: for unequal lengths, NaN or infinity, constants, too few pairs, options that cannot be.
        """
        self._check()
        generator = torch.Generator().manual_seed(self.seed)
        pairs = as_pairs(x, z, "training")
        device = torch.device(self.device or pairs[0].device)
        if (x_test is None) != (z_test is None):
            raise UserError("mine: x_test and z_test come together")
        if x_test is None:
            test, pairs = cut(*pairs, self.held_out, generator)
        else:
            test = as_pairs(x_test, z_test, "test")
            if [side.shape[1:] for side in test] != [side.shape[1:] for side in pairs]:
                raise UserError("mine: training and test pairs differ in shape")
            test = ordered(*test, torch.randperm(len(test[0]), generator=generator))
        valid = None
        if self.patience is not None:
            valid, pairs = cut(*pairs, self.validation, generator)
        least = 2 * min(self.batch_size, 16)
        if len(pairs[0]) < least:
            raise UserError(f"mine: {len(pairs[0])} training pairs are too few; give at least {least}")
        x, z = (side.to(device) for side in pairs)
        batch = min(self.batch_size, len(x))
        steps = self.steps or max(1, round(self.epochs * (len(x) // batch)))
        self._train((x, z), training.batches(x, z, batch, generator), steps, len(x) / batch, test, valid)
        return self

    def fit_sampler(self, sampler: training.Sampler, test_pairs: int = 100_000) -> "MINE":
        """Trains on fresh pairs at every step and estimates on `test_pairs` others: no pair is seen twice.

        An epoch of the history is `test_pairs` pairs.

        Args:
            sampler: called with a number n and a generator on the CPU; draws x (n, ...) and z (n, ...).

        Raises:
            UserError: as `fit`, and if `steps` is not set.
        """
        self._check()
        if self.steps is None:
            raise UserError("mine: fresh pairs have no epochs: set steps")
        generator = torch.Generator().manual_seed(self.seed)

        def draw(rows: int, name: str | None = "drawn") -> training.Pairs:
            # Negatives are the rows that follow: a sampler of windows or classes would put like beside like.
            x, z = as_pairs(*sampler(rows, generator), name)
            if len(x) != rows:
                raise UserError(f"mine: the sampler was asked for {rows} pairs and gave {len(x)}")
            return ordered(x, z, torch.randperm(rows, generator=generator))

        first, test = draw(CURVE_PAIRS), draw(test_pairs)
        valid = None if self.patience is None else draw(CURVE_PAIRS)
        device = torch.device(self.device or first[0].device)
        fresh = (draw(self.batch_size, None) for _ in itertools.count())
        feed = ((x.to(device), z.to(device)) for x, z in fresh)
        known = first[0].to(device), first[1].to(device)
        self._train(known, feed, self.steps, test_pairs / self.batch_size, test, valid)
        return self

    def score(self, x: Any, z: Any) -> float:
        """The estimate of the trained critic on other pairs, in `unit`; they are taken in a random order."""
        self._need_fit()
        pairs = as_pairs(x, z, "scored")
        sizes = [tuple(side.shape[1:]) for side in pairs]
        if sizes != self._sizes:
            raise UserError(f"mine: pairs of {sizes} are scored by a critic of {self._sizes}")
        generator = torch.Generator().manual_seed(self.seed)
        x, z = ordered(*pairs, torch.randperm(len(pairs[0]), generator=generator))
        device = self.critic_.scale_z.mean.device
        return self._measure(self.critic_, (x.to(device), z.to(device)), self.negatives_)

    def plot(self, path: str | Path | None = None) -> Any:
        """The convergence curve, held-out and training estimate against epochs; saved as PNG and SVG if `path` is set.

        Returns:
            The matplotlib figure.
        """
        self._need_fit()
        from dim import plots  # late: an estimate needs no matplotlib

        labels = {"train": "training pairs", "validation": "validation pairs", "estimate": "held-out pairs"}
        curves = {label: (self.history_, name) for name, label in labels.items() if name in self.history_[0]}
        figure = plots.convergence(f"MINE, {self.bound}", curves, self.ceiling_, self.unit)
        middle, spread = self.mean_of_last_, self.spread_
        (axes,) = figure.axes
        axes.axhspan(middle - spread, middle + spread, color="grey", alpha=0.15, label="spread of the last")
        axes.axhline(self.estimate_, color="black", linewidth=0.8, label=f"estimate {self.estimate_:.3f}")
        axes.legend(fontsize="small")
        if path is not None:
            plots.save(figure, path)
        return figure

    def _need_fit(self) -> None:
        if not hasattr(self, "critic_"):
            raise UserError("mine: nothing was trained yet: call fit or fit_sampler first")

    def _check(self) -> None:
        for name in (self.bound, self.report):
            if name is not None and name not in OBJECTIVES:
                raise UserError(f"mine: there is no objective '{name}': choose from {', '.join(OBJECTIVES)}")
        if self.report is not None and not OBJECTIVES[self.report].has_estimate:
            raise UserError(f"mine: '{self.report}' has no estimate to report")
        unfelt, spoilt = training.LEFT_TO_CHANCE.get(self.bound, ("", ()))
        if self._reporter.name in spoilt:
            raise UserError(
                f"mine: {self.bound} trains scores up to {unfelt}, which '{self.report}' would report as information: "
                f"train with jsd, or report {self.bound}"
            )
        if self._reporter.takes_baseline and not OBJECTIVES[self.bound].takes_baseline:
            raise UserError(f"mine: '{self.report}' reports with a baseline that only tuba and interpolated train")
        positive(epochs=self.epochs, learning_rate=self.learning_rate)
        counts = {name: getattr(self, name) for name in ("steps", "patience", "held_out_negatives")}
        given = {name: count for name, count in counts.items() if count is not None}
        at_least(1, evaluations=self.evaluations, units=self.units, widths=min(self.widths, default=0), **given)
        at_least(2, batch_size=self.batch_size)
        if not (0 < self.held_out < 1 and 0 < self.validation < 1):
            raise UserError("mine: held_out and validation are shares between 0 and 1")
        if self.unit not in ("nats", "bits"):
            raise UserError(f"mine: unit is '{self.unit}': nats or bits")
        if self.critic not in HELD_OUT_NEGATIVES:
            raise UserError(f"mine: there is no critic '{self.critic}': choose from {', '.join(HELD_OUT_NEGATIVES)}")
        if self.negatives is not None and self.negatives < self._fewest:
            raise UserError(f"mine: negatives is {self.negatives}: {self._neediest.name} needs at least {self._fewest}")

    @property
    def _reporter(self) -> Objective:
        own = OBJECTIVES[self.bound]
        return OBJECTIVES[self.report or (self.bound if own.has_estimate else "dv")]

    @property
    def _contrasting(self) -> bool:
        return OBJECTIVES[self.bound].contrasting or self._reporter.contrasting

    @property
    def _neediest(self) -> Objective:
        return max(OBJECTIVES[self.bound], self._reporter, key=lambda objective: objective.fewest_negatives)

    @property
    def _fewest(self) -> int:
        return self._neediest.fewest_negatives

    def _build(self, x: Tensor, z: Tensor) -> training.Critic:
        """A critic for pairs of which x and z are known, the same for the same seed."""
        scale_x, scale_z = Scale(x), Scale(z.flatten(1))
        shape = tuple(x.shape[1:]) if x.ndim == 4 else (x[0].numel(),)
        z_size = z[0].numel()
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(self.seed)
            network = statistics_network(self.critic, shape, z_size, self.widths, self.units)
            baseline = perceptron((z_size, 512, 1)) if OBJECTIVES[self.bound].takes_baseline else None
        return training.Critic(network, baseline, scale_x, scale_z).to(x.device)

    def _counts(self, batch: int, test: int) -> tuple[int, int]:
        """Negatives of each z in a step and among held-out pairs."""
        contrasting = self._contrasting
        if self.negatives is not None:
            step = min(self.negatives, batch - 1)
        else:
            step = batch - 1 if contrasting or self.critic == "separable" else 1
        # What a contrasting objective reports depends on their number, so that is the one that it was trained with.
        final = step if contrasting else max(step, HELD_OUT_NEGATIVES[self.critic])
        return step, min(final, test - 1)

    def _train(
        self,
        known: training.Pairs,
        feed: Iterator[training.Pairs],
        steps: int,
        epoch: float,
        test: training.Pairs,
        valid: training.Pairs | None,
    ) -> None:
        """Trains on what `feed` gives, `epoch` steps an epoch, and sets the attributes."""
        device = known[0].device
        test = test[0].to(device), test[1].to(device)
        valid = None if valid is None else (valid[0].to(device), valid[1].to(device))
        critic, self._sizes = self._build(*known), [tuple(side.shape[1:]) for side in known]
        batch = min(self.batch_size, len(known[0]))
        negatives, held = self._counts(batch, min(len(test[0]), len(valid[0])) if valid else len(test[0]))
        if (found := min(negatives, held)) < self._fewest:
            raise UserError(
                f"mine: {self._neediest.name} needs at least {self._fewest} negatives, here are {found}: give a larger "
                "batch_size or more pairs"
            )
        trainer = training.Trainer(critic, OBJECTIVES[self.bound], self.learning_rate, steps, negatives)
        due = {round(steps * (k + 1) / self.evaluations) for k in range(self.evaluations)}
        self.history_: list[dict[str, float]] = []
        best = training.Best(self.patience)
        with self._report() as report:
            total, count = torch.zeros((), device=device), 0
            for step, (x, z) in enumerate(itertools.islice(feed, steps), 1):
                total, count = total + self._estimate(trainer.step(x, z)), count + 1
                report("mine", step / steps)
                if step not in due:
                    continue
                entry = {"epoch": step / epoch, "step": step, "train": self._in_unit(float(total) / count)}
                total, count = torch.zeros_like(total), 0
                entry["estimate"] = self._measure(critic, test, held, CURVE_PAIRS)
                if valid is not None:
                    entry["validation"] = self._measure(critic, valid, held)
                if not all(map(math.isfinite, entry.values())):
                    raise DivergenceError(f"mine: not finite after {step} steps{TRY}")
                self.history_.append(entry)
                if valid is not None and best.stop(entry["validation"], critic):
                    report("mine", 1.0)
                    break
        best.restore(critic)
        self.critic_ = critic
        if self.held_out_negatives is not None and not self._contrasting:
            held = min(self.held_out_negatives, len(test[0]) - 1)
        self.negatives_ = held
        before = self.history_[: len(self.history_) - best.waited]  # up to the critic that was kept
        self._summarise(training.held_out(critic, *test, held), before)
        train = statistics.fmean(entry["train"] for entry in before[-3:])
        kept, last = (int(history[-1]["step"]) for history in (before, self.history_))
        warn_of_doubt(self.estimate_, train, self.ceiling_, self.unit, kept, last)

    @contextlib.contextmanager
    def _report(self) -> Iterator[Report]:
        if self.progress is True:
            with bars() as report:
                yield report
        else:
            yield self.progress or silent

    def _estimate(self, scores: training.Scores) -> Tensor:
        with torch.no_grad():
            if self._reporter.name == self.bound:
                return scores.estimate(self._reporter)
            to_ratio = training.LOG_RATIO.get(self.bound, lambda t: t)
            more = 1.0 if self._reporter.name in ("nwj", "kl") else 0.0
            return scores.estimate(self._reporter, lambda t: to_ratio(t) + more)

    def _measure(
        self, critic: training.Critic, pairs: training.Pairs, negatives: int, most: int | None = None
    ) -> float:
        x, z = (side[:most] for side in pairs)
        return self._in_unit(float(self._estimate(training.held_out(critic, x, z, min(negatives, len(x) - 1)))))

    def _in_unit(self, nats: float) -> float:
        return nats / NATS_PER_BIT if self.unit == "bits" else nats

    def _summarise(self, scores: training.Scores, before: list[dict[str, float]]) -> None:
        n = len(scores.positive)
        self.estimate_ = self._in_unit(float(self._estimate(scores)))
        if not math.isfinite(self.estimate_):  # of more pairs than those along the training
            raise DivergenceError(f"mine: the estimate of all held-out pairs is not finite{TRY}")
        parts = [self._in_unit(float(self._estimate(part))) for part in scores.split(min(PARTS, n))]
        self.standard_error_ = statistics.stdev(parts) / math.sqrt(len(parts)) if len(parts) > 1 else math.inf
        last = [entry["estimate"] for entry in before[-max(2, len(before) // 4) :]]
        self.spread_ = statistics.stdev(last) if len(last) > 1 else 0.0
        self.mean_of_last_ = statistics.fmean(last)
        limit = min(n, 1 + self.negatives_) if self._reporter.classifies else n
        self.ceiling_ = self._in_unit(math.log(limit))
