"""Deep InfoMax: a weighted sum of global, local and prior-matching objectives (section 3)."""

import inspect
import math
from typing import Any, Literal, cast, get_args

import torch
from torch import Tensor, nn

from dim import adversarial, distributed
from dim.adversarial import Prior
from dim.augmentation import NUMBERS, random_view
from dim.contrast import code_vectors, contrast
from dim.data.loader import Batch
from dim.errors import UserError, at_least, one_of
from dim.extensions import ObjectiveName
from dim.models.base import Model, Step
from dim.networks.batchnorm import in_groups
from dim.networks.critics import (
    Critic,
    GlobalConcatCritic,
    GlobalDotCritic,
    LocalConcatCritic,
    LocalDotCritic,
)
from dim.networks.discriminators import CodeDiscriminator
from dim.objectives import OBJECTIVES
from dim.structure import CoordinateHead, Coordinates, occlude, random_boxes, random_partners

CriticName = Literal["concat", "dot"]


class LogBaseline(nn.Sequential):
    """log a(y) for objectives with a learned baseline: codes (N, Y) -> (N, 1). Its size is ours."""

    def __init__(self, code_size: int) -> None:
        super().__init__(nn.Linear(code_size, 512), nn.ReLU(inplace=True), nn.Linear(512, 1))


class DeepInfoMax(Model):
    """alpha * global + beta * local objective, and gamma * prior matching.

    DIM(G) is alpha 1, beta 0, gamma 1; DIM(L) alpha 0, beta 1, gamma 0.1; DIM(L+G) alpha 0.5, beta 0.1, for which
    the paper gives no gamma. A part whose weight is 0 is not built.

    Args:
        alpha: weight of the global objective.
        beta: weight of the local objective.
        gamma: weight of prior matching in the encoder's loss.
        global_critic: concat is the paper's, dot the authors' code's.
        local_critic: as far as is recalled, dot is table 1's, concat table 4's and the ablations'.
        global_objective: objective of the global critic.
        local_objective: objective of the local critic.
        prior_objective: objective of the prior discriminator; jsd in the non-saturating form is the paper's.
        units: width U of the encode-and-dot critics and of the coordinate head.
        score_spread: standard deviation of the local dot critic's scores at the start; None is the authors' code's, the
            square root of `units`, from which a softmax needs many epochs to recover (docs/recipe.md).
        width: width of the concatenation critics.
        negatives: negatives drawn for each positive; by default all other images at all positions.
        gather_negatives: on several processes, take negatives from the batches of all.
        prior: the prior; uniform is the paper's.
        gradient_penalty: weight of the prior discriminator's gradient penalty on prior samples.
        coordinates: also predict where a position lies, on its own or relative to another (table 5).
        occlusion: hide a part of the image from the code, but not from the maps (table 5).
        views: score the code of one random view of an image against the map of another view, and the other way round,
            instead of both from the image as it is. Not the paper's (dim/augmentation.py).
        ghost_batch: codes come from a second pass of the encoder, in which batch norm sees so many images at a time,
            grouped anew at every step (Hoffer et al. 2017), and maps from the whole batch: the statistics' noise alone
            tells the two apart, images are not changed. Of all processes together with union_statistics, of each
            without. Batch norm's running statistics count both passes. Not the paper's, for which it is None.
    """

    takes_global_map = True
    remedy = (
        "lower the learning rate, let scores start small (--model.score_spread 1), or use an objective in the log "
        "domain (dv, jsd, infonce)"
    )

    def __init__(
        self,
        alpha: float = 0.0,
        beta: float = 1.0,
        gamma: float = 0.1,
        global_critic: CriticName = "concat",
        local_critic: CriticName = "dot",
        global_objective: ObjectiveName = "jsd",
        local_objective: ObjectiveName = "infonce",
        prior_objective: ObjectiveName = "jsd",
        units: int = 2048,
        score_spread: float | None = None,
        width: int = 512,
        negatives: int | None = None,
        gather_negatives: bool = True,
        prior: Prior = "uniform",
        gradient_penalty: float = 0.5,
        coordinates: Coordinates = "none",
        occlusion: bool = False,
        views: bool = False,
        ghost_batch: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        at_least(1, units=units, width=width)
        one_of(get_args(CriticName), global_critic=global_critic, local_critic=local_critic)
        one_of(OBJECTIVES, global_objective=global_objective, local_objective=local_objective)
        one_of(OBJECTIVES, prior_objective=prior_objective)
        one_of(get_args(Prior), prior=prior)
        one_of(get_args(Coordinates), coordinates=coordinates)
        if not (alpha or beta):
            raise UserError("alpha and beta are both 0: Deep InfoMax needs a global or a local objective")
        at_least(0, alpha=alpha, beta=beta, gamma=gamma, gradient_penalty=gradient_penalty)
        if views and (occlusion or coordinates != "none"):
            raise UserError("views with occlusion or coordinates is not defined: positions of two views differ")
        if ghost_batch is not None:
            at_least(2, ghost_batch=ghost_batch)
            if views:
                raise UserError("ghost_batch with views is not defined: codes of views have a pass of their own")
        if score_spread is not None and not score_spread > 0:
            raise UserError(f"score_spread is {score_spread}: it must be positive")
        used = [name for name, weight in ((global_objective, alpha), (local_objective, beta)) if weight]
        fewest = max(OBJECTIVES[name].fewest_negatives for name in used)
        if negatives is not None and negatives < fewest:
            raise UserError(f"negatives is {negatives}: {', '.join(used)} needs at least {fewest}")
        self.weights = {"global": alpha, "local": beta}
        self.objectives = {"global": OBJECTIVES[global_objective], "local": OBJECTIVES[local_objective]}
        self.prior_objective = OBJECTIVES[prior_objective]
        shapes, code_size = self.encoder.shapes(), self.code_size
        self.critics = nn.ModuleDict()
        if alpha:
            self.critics["global"] = (
                GlobalConcatCritic(shapes, code_size, width)
                if global_critic == "concat"
                else GlobalDotCritic(shapes, code_size, units)
            )
        if beta:
            self.critics["local"] = (
                LocalConcatCritic(shapes, code_size, width)
                if local_critic == "concat"
                else LocalDotCritic(shapes, code_size, units, score_spread)
            )
        self.baselines = nn.ModuleDict(
            {part: LogBaseline(code_size) for part in self.critics if self.objectives[part].takes_baseline}
        )
        if coordinates != "none":
            if len(shapes["y"]) > 1:
                raise UserError("coordinates are predicted from one code: choose an encoder without global vectors")
            self.coordinates = CoordinateHead(shapes["local"], code_size, units, coordinates == "relative")
        if gamma:
            if prior == "uniform" and self.encoder.rectified:
                raise UserError(
                    f"encoder '{self.hparams['encoder']}' has a ReLU behind its code, whose sigmoid cannot be uniform "
                    "on [0, 1]: set model.gamma to 0, or take another prior"
                )
            self.discriminator = CodeDiscriminator(code_size)

    def check(self, batch_size: int, processes: int, training: bool) -> None:
        super().check(batch_size, processes, training)
        ghost = self.hparams["ghost_batch"]
        together = processes if self.hparams["union_statistics"] else 1
        if training and ghost and (ghost % together or batch_size * together % ghost):
            shared = f" of {together} processes" if together > 1 else ""
            raise UserError(
                f"ghost_batch is {ghost}: batches of {batch_size} images{shared} do not fall into such groups"
            )
        images = batch_size * (processes if self.hparams["gather_negatives"] else 1)
        # A global critic has one negative for each other image.
        needed = self.hparams["negatives"]
        needed = needed or (self.objectives["global"].fewest_negatives if self.hparams["alpha"] else 1)
        if images <= needed:
            raise UserError(
                f"{needed} negatives for each positive need more images than {images} in a batch: raise "
                "--data.batch_size or lower --model.negatives"
            )

    def idle(self) -> list[str]:
        options = self.hparams
        weights = {"local": options["beta"], "global": options["alpha"]}
        critics = {options[f"{part}_critic"] for part, weight in weights.items() if weight}
        read = {f"{part}_{what}": bool(weight) for part, weight in weights.items() for what in ("critic", "objective")}
        read |= dict.fromkeys(("prior", "prior_objective", "gradient_penalty"), bool(options["gamma"]))
        read |= {"width": "concat" in critics, "units": "dot" in critics or options["coordinates"] != "none"}
        read["score_spread"] = bool(options["beta"]) and options["local_critic"] == "dot"
        defaults = inspect.signature(DeepInfoMax).parameters
        return [name for name, does in read.items() if not does and options[name] != defaults[name].default]

    def losses(self, batch: Batch) -> Step:
        step = Step({}, {})
        seen = self._seen(batch.images)
        for part in self.critics:
            self._add_information(step, part, seen)
        if self.hparams["coordinates"] != "none":
            self._add_coordinates(step, seen[0])
        if self.hparams["gamma"]:
            self._add_prior(step, torch.cat([outputs["y"] for outputs in seen]))
        return step

    def _seen(self, images: Tensor) -> list[dict[str, Tensor]]:
        """The encoder's outputs with the code of each image and the maps that it is scored against."""
        if self.hparams["views"]:
            draws = [self.random(lambda n, g: torch.rand(n, NUMBERS, generator=g), len(images)) for _ in range(2)]
            one, other = (self.encoder(random_view(images, numbers)) for numbers in draws)
            return [{**one, "y": other["y"]}, {**other, "y": one["y"]}]
        outputs = self.encoder(images)
        if self.hparams["occlusion"]:
            boxes = self.random(lambda n, g: random_boxes(n, g, images.shape[-1]), len(images))
            images = occlude(images, boxes)
        size = self.hparams["ghost_batch"] if self.training else None
        if size and self.hparams["union_statistics"]:
            size //= distributed.size()
        if self.hparams["occlusion"] or size:
            outputs["y"] = self._codes(images, size)
        return [outputs]

    def _codes(self, images: Tensor, size: int | None) -> Tensor:
        """Codes by a pass of their own, of random groups of `size` images if it is set."""
        if not size:
            return self.encoder(images)["y"]
        order = self.random(lambda n, g: torch.rand(n, generator=g), len(images)).argsort()
        with in_groups(self.encoder, len(images), size):
            return self.encoder(images[order].contiguous(memory_format=torch.channels_last))["y"][order.argsort()]

    @property
    def union(self) -> bool:
        return self.hparams["gather_negatives"] and distributed.size() > 1

    def _add_information(self, step: Step, part: str, seen: list[dict[str, Tensor]]) -> None:
        """Means over views, where there are several."""
        found = [self._information(part, outputs) for outputs in seen]
        step.losses[part] = -self.weights[part] * torch.stack([value for value, _ in found]).mean()
        for name in found[0][1]:
            step.metrics[name] = torch.stack([metrics[name] for _, metrics in found]).mean()

    def _information(self, part: str, outputs: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """The objective, and what it says in nats."""
        critic = cast(Critic, self.critics[part])
        y, negatives = outputs["y"], self.hparams["negatives"]
        scores = contrast(critic, y, outputs[critic.source], negatives, self.union, self.rng)
        objective, baseline = self.objectives[part], None
        if objective.takes_baseline:
            rows = code_vectors(y).flatten(0, 1)
            baseline = self.baselines[part](rows).repeat_interleave(len(scores.positive) // len(rows), 0)
        value = objective(*scores, baseline, union=self.union)
        with torch.no_grad():
            estimate = objective.estimate(*scores, baseline, union=self.union, value=value.detach())
        if estimate is None:
            return value, {}
        # infoNCE's limit; for others about as much as that many pairs can certify by any bound.
        pairs = scores.positive.numel() * (distributed.size() if self.union else 1)
        limit = 1 + scores.negative.shape[1] if objective.classifies else pairs
        ceiling = torch.full_like(estimate, math.log(limit))
        return value, {f"{part}_nats": estimate, f"{part}_ceiling": ceiling}

    def _add_coordinates(self, step: Step, outputs: dict[str, Tensor]) -> None:
        maps = outputs["local"]
        partners = self.random(lambda n, g: random_partners(n, maps[0, 0].numel(), g), len(maps))
        step.losses["coordinates"], step.metrics["coordinates_accuracy"] = self.coordinates(
            outputs["y"], maps, partners
        )

    def _add_prior(self, step: Step, y: Tensor) -> None:
        prior, codes = self.hparams["prior"], code_vectors(y).flatten(0, 1)
        real = self.prior_samples(prior, len(codes))
        penalty = self.hparams["gradient_penalty"]
        losses, metrics = adversarial.match_prior(self.discriminator, self.prior_objective, prior, real, codes, penalty)
        losses["prior"] = self.hparams["gamma"] * losses["prior"]
        step.losses.update(losses)
        step.metrics.update(metrics)
