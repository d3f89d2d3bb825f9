"""Objectives on critic scores: what is maximised, and the mutual information (nats) that it stands for.

Every objective is called as `objective(positive, negative)`: positive (N, P) holds the scores of N rows with P
positive pairs each, negative (N, K) the scores of the K negatives that the P positives of a row share. Rows are
complete and unpadded: pairs that must not count as negatives are left out by the caller. A critic that draws
negatives for each positive passes N*P rows with P = 1; a discriminator between two samples passes one row,
(1, N) and (1, N). T stands for a score, sp(t) for log(1 + e^t).

`objective.estimate(positive, negative)` is the mutual information in nats that the objective certifies or
estimates on these scores, or None where it has none. To add an objective, define it here with `@objective` (and
`@name.estimator` if it has an estimate) and add a line to its test; every model, critic and command offers it.

Sources: Hjelm et al. 2019, section 3; Nowozin et al. 2016, table 6; Poole et al. 2019; Song and Ermon 2020.
"""

import functools
import inspect
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import softplus

from dim import distributed
from dim.errors import UserError

OBJECTIVES: dict[str, "Objective"] = {}


@functools.cache
def _takes(function: Callable[..., Tensor], parameter: str) -> bool:
    return parameter in inspect.signature(function).parameters


class Objective:
    """A scalar to maximise, and optionally an estimate of mutual information.

    Args:
        value: the definition; it may take, beside the scores, `log_baseline` (N, 1) and `union`.

    Attributes:
        name: what configs and the command line call it.
        takes_baseline: whether it needs `log_baseline`, the logarithm of a learned baseline a(y) for each row.
        contrasting: whether it looks at a row's negatives together, and is the better the more there are; others take
            means over all rows'.
        fewest_negatives: that a row must have.
        classifies: whether it tells the positive from its row's negatives, so that what it reports of K of them is at
            most log(1 + K).
    """

    contrasting = False
    classifies = False
    fewest_negatives = 1

    def __init__(self, value: Callable[..., Tensor]) -> None:
        self.name = value.__name__
        self.__doc__ = value.__doc__
        self._value = value
        self._estimate: Callable[..., Tensor] | None = None
        self.takes_baseline = _takes(value, "log_baseline")

    def __repr__(self) -> str:
        return f"<objective {self.name}>"

    @property
    def has_estimate(self) -> bool:
        """Whether it reports mutual information."""
        return self._estimate is not None

    def estimator(self, estimate: Callable[..., Tensor]) -> Callable[..., Tensor]:
        """Decorator: `estimate` is what this objective reports, in nats.

        It takes the scores, and `log_baseline` and `union` if it has parameters of these names; or, if its first
        parameter is called `value`, the objective's value and the negatives.
        """
        self._estimate = estimate
        return estimate

    def _call(self, function: Callable[..., Tensor], arguments: tuple[Tensor | None, ...], union: bool) -> Tensor:
        positive, negative, log_baseline = arguments
        assert positive is not None
        assert negative is not None
        if positive.ndim != 2 or negative.ndim != 2 or len(positive) != len(negative):
            raise ValueError(
                f"{self.name}: scores must be (N, P) and (N, K), got {tuple(positive.shape)}, {tuple(negative.shape)}"
            )
        if self.takes_baseline and (log_baseline is None or log_baseline.shape not in ((len(positive), 1), (1, 1))):
            found = "" if log_baseline is None else f", got {tuple(log_baseline.shape)}"
            raise ValueError(f"{self.name} needs log_baseline, ({len(positive)}, 1){found}")
        # Exponentials and log-sum-exps of half-precision scores are taken in float32.
        dtype = torch.promote_types(positive.dtype, torch.float32)
        extra: dict[str, Tensor | bool] = {}
        if _takes(function, "log_baseline") and log_baseline is not None:
            extra["log_baseline"] = log_baseline.to(dtype)
        if _takes(function, "union"):
            extra["union"] = union
        return function(positive.to(dtype), negative.to(dtype), **extra)

    def __call__(
        self, positive: Tensor, negative: Tensor, log_baseline: Tensor | None = None, union: bool = False
    ) -> Tensor:
        """The scalar to maximise.

        With `union`, positive and negative are this process's rows of a batch spread evenly over all processes,
        and the values' mean over processes is that of the whole batch, in value and gradient.
        """
        return self._call(self._value, (positive, negative, log_baseline), union)

    def estimate(
        self,
        positive: Tensor,
        negative: Tensor,
        log_baseline: Tensor | None = None,
        union: bool = False,
        value: Tensor | None = None,
    ) -> Tensor | None:
        """Mutual information in nats, or None where the objective does not estimate it.

        `value` is the objective itself of the same scores, where it is known: bounds need no second look at them.
        """
        if self._estimate is None:
            return None
        if _takes(self._estimate, "value"):
            value = self(positive, negative, log_baseline, union) if value is None else value
            return self._estimate(value, negative)
        return self._call(self._estimate, (positive, negative, log_baseline), union)


def objective(value: Callable[..., Tensor]) -> Objective:
    """Decorator: makes a definition an objective and lists it under its name."""
    made = Objective(value)
    if made.name in OBJECTIVES:
        raise UserError(f"there is an objective '{made.name}' already: give it another name")
    OBJECTIVES[made.name] = made
    return made


class _LogSumExp(torch.autograd.Function):
    """(N, K) -> (N, 1); its way back makes one array of the scores' size where autograd's own makes three."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor) -> Tensor:
        total = scores.logsumexp(1, keepdim=True)
        ctx.save_for_backward(scores, total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        scores, total = ctx.saved_tensors
        if torch.is_grad_enabled():  # to be differentiated again
            return (scores - total).exp() * gradient
        return (scores - total).exp_().mul_(gradient)


def log_mean_exp(scores: Tensor, union: bool = False) -> Tensor:
    """log of the mean of e^scores over all entries; with `union`, over those of all processes."""
    total = _LogSumExp.apply(scores.reshape(1, -1)).squeeze()
    if union:
        total = distributed.gather(total[None]).logsumexp(0)
    count = scores.numel() * (distributed.size() if union else 1)
    return total - math.log(count)


@objective
def dv(positive: Tensor, negative: Tensor, union: bool = False) -> Tensor:
    """Donsker-Varadhan: mean T - log mean e^T, one log-mean-exp over the whole batch."""
    return positive.mean() - log_mean_exp(negative, union)


def is_its_value(value: Tensor, negative: Tensor) -> Tensor:
    """The estimate of objectives that are bounds in nats themselves."""
    return value


dv.estimator(is_its_value)


@objective
def jsd(positive: Tensor, negative: Tensor) -> Tensor:
    """Jensen-Shannon in the form of binary cross-entropy: mean -sp(-T) - mean sp(T), no constant added."""
    return -softplus(-positive).mean() - softplus(negative).mean()


@objective
def infonce(positive: Tensor, negative: Tensor) -> Tensor:
    """infoNCE: each positive against the K negatives of its row, 1 + K classes.

    The positives of a row share one log-sum-exp, so that nothing larger than the scores is built.
    """
    others = _LogSumExp.apply(negative)
    return (positive - torch.logaddexp(positive, others)).mean()


infonce.contrasting = infonce.classifies = True


@infonce.estimator
def _(value: Tensor, negative: Tensor) -> Tensor:
    # A lower bound that cannot exceed the logarithm of the number of classes.
    return value + math.log(1 + negative.shape[1])


@objective
def nwj(positive: Tensor, negative: Tensor) -> Tensor:
    """Nguyen, Wainwright and Jordan: mean T - mean e^(T-1)."""
    return positive.mean() - (negative - 1).exp().mean()


nwj.estimator(is_its_value)


@objective
def kl(positive: Tensor, negative: Tensor) -> Tensor:
    """KL as an f-divergence: (T, e^(T-1)), which is NWJ under its other name (MINE-f)."""
    return nwj._value(positive, negative)


kl.estimator(is_its_value)


@objective
def reverse_kl(positive: Tensor, negative: Tensor) -> Tensor:
    """Reverse KL: (-e^(-T), T - 1)."""
    return -(-positive).exp().mean() - (negative - 1).mean()


@objective
def hellinger(positive: Tensor, negative: Tensor) -> Tensor:
    """Squared Hellinger: (1 - e^(-T), e^T - 1)."""
    return -(-positive).expm1().mean() - negative.expm1().mean()


@objective
def chi2(positive: Tensor, negative: Tensor) -> Tensor:
    """Pearson chi^2: (T, T^2/4 + T)."""
    return positive.mean() - (negative.square() / 4 + negative).mean()


@objective
def tuba(positive: Tensor, negative: Tensor, log_baseline: Tensor) -> Tensor:
    """TUBA: 1 + mean (T - log a(y)) - mean e^T / a(y), a learned baseline a(y) for each row."""
    return 1 + (positive - log_baseline).mean() - (negative - log_baseline).exp().mean()


tuba.estimator(is_its_value)

INTERPOLATION = 0.5
"""Weight of the batch's own average in `interpolated`: 1 is infoNCE's normaliser, 0 is TUBA's baseline."""


@objective
def interpolated(positive: Tensor, negative: Tensor, log_baseline: Tensor) -> Tensor:
    """Poole et al. 2019, equation 13: TUBA whose baseline mixes a(y) with the mean of e^T over K samples.

    Both terms of the bound need a baseline of the same number of samples: a positive's is made of itself and
    K - 1 negatives, the negatives' of all K. K must be at least 2.
    """
    if negative.shape[1] < interpolated.fewest_negatives:
        raise ValueError("interpolated needs at least 2 negatives in each row")
    log_k = math.log(negative.shape[1])
    own = math.log(1 - INTERPOLATION) + log_baseline

    def log_mixture(log_mean: Tensor) -> Tensor:
        return torch.logaddexp(math.log(INTERPOLATION) + log_mean, own)

    others = _LogSumExp.apply(negative[:, 1:])
    positives = positive - log_mixture(torch.logaddexp(positive, others) - log_k)
    mean = _LogSumExp.apply(negative) - log_k
    return 1 + positives.mean() - (mean - log_mixture(mean)).exp().mean()


interpolated.estimator(is_its_value)
interpolated.contrasting, interpolated.fewest_negatives = True, 2


@objective
def js(positive: Tensor, negative: Tensor) -> Tensor:
    """Trained as JSD, reported as the NWJ bound at T + 1: 1 + mean T - mean e^T (Poole et al. 2019)."""
    return jsd._value(positive, negative)


@js.estimator
def _(positive: Tensor, negative: Tensor) -> Tensor:
    return 1 + positive.mean() - negative.exp().mean()


SMILE_CLIP = 5.0
"""SMILE's tau, one of the values that Song and Ermon use."""


@objective
def smile(positive: Tensor, negative: Tensor) -> Tensor:
    """Trained as JSD, reported as DV with the negatives' scores clamped to [-tau, tau]; not a bound."""
    return jsd._value(positive, negative)


@smile.estimator
def _(positive: Tensor, negative: Tensor, union: bool = False) -> Tensor:
    return positive.mean() - log_mean_exp(negative.clamp(-SMILE_CLIP, SMILE_CLIP), union)
