"""Noise as targets (Bojanowski and Joulin 2017): each image is drawn to a point of the sphere, points are swapped."""

from typing import Any, cast

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn.functional import normalize

from dim import adversarial, distributed
from dim.data.loader import Batch
from dim.errors import UserError, at_least
from dim.models.base import Model, Step


def reassign(codes: Tensor, targets: Tensor) -> Tensor:
    """The permutation of the targets (N, Y) that has the least summed squared distance to the codes (N, Y).

    The Hungarian method; for unit vectors distance and cosine order assignments alike.
    """
    cost = torch.cdist(codes.float(), targets.float()).square()
    _, columns = linear_sum_assignment(cost.cpu().numpy())
    return torch.from_numpy(columns).to(codes.device)


class NoiseAsTargets(Model):
    """Squared distance of normalised codes to fixed targets, one for each training image.

    In some epochs the targets of a batch are re-assigned among its images before the step; a batch spread over
    processes is one batch. Targets and their assignment are part of the checkpoint. Held-out images have no target:
    validation and test report the distance to the nearest one.

    Args:
        period: re-assign in every such epoch: 2 is the lab's alternation, 3 the original's.
    """

    targets: Tensor
    assignment: Tensor

    def __init__(self, period: int = 2, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        at_least(1, period=period)

    def setup(self, stage: str) -> None:
        super().setup(stage)
        if not hasattr(self, "targets"):
            self.make_targets(len(cast(Any, self.trainer).datamodule.splits["train"].labels))

    def make_targets(self, images: int) -> None:
        """Draws the targets, the same for every seed of training, and assigns them in order."""
        targets = adversarial.sample_prior("sphere", images, self.code_size, torch.Generator().manual_seed(0))
        self.register_buffer("targets", targets)
        self.register_buffer("assignment", torch.arange(images))
        # All processes compute the same: DistributedDataParallel need not send them before every step.
        self._ddp_params_and_buffers_to_ignore = ["targets", "assignment"]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        saved = len(checkpoint["state_dict"]["targets"])
        if self._resumes() and saved != len(self.targets):
            raise UserError(
                f"the checkpoint has targets for {saved} training images, here are {len(self.targets)}: train on with "
                "the data and data.validation that it had"
            )
        if saved != len(getattr(self, "targets", ())):
            self.make_targets(saved)  # wherever it is evaluated, the targets are those of its training

    def losses(self, batch: Batch) -> Step:
        codes = normalize(self.encoder(batch.images)["y"])
        if not self.training:
            nearest = 2 - 2 * (codes @ self.targets.T).amax(1)
            return Step({"distance": nearest.mean()}, {})
        moved = codes.new_zeros(())
        if self.current_epoch % self.hparams["period"] == 0:
            moved = self._reassign(distributed.gather(codes.detach()), distributed.gather(batch.indices))
        distance = (codes - self.targets[self.assignment[batch.indices]]).square().sum(1).mean()
        return Step({"distance": distance}, {"reassigned": moved})

    def _reassign(self, codes: Tensor, indices: Tensor) -> Tensor:
        """Swaps the targets of the images `indices` among them; returns the share that moved.

        Every process keeps the whole assignment, and all compute the same one.
        """
        before = self.assignment[indices]
        if not codes.isfinite().all():  # such codes have no assignment, and their loss is about to stop the run
            return codes.new_zeros(())
        chosen = before[reassign(codes, self.targets[before])]
        self.assignment[indices] = chosen
        return (chosen != before).float().mean()
