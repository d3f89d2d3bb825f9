"""Training steps to time, and their arithmetic."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from dim.data.loader import Batch, normalise
from dim.models import DeepInfoMax, Model, NoiseAsTargets


class Counter(TorchDispatchMode):
    """Adds up the floating-point operations of products and convolutions, as PyTorch counts them."""

    total = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        if count := flop_registry.get(function._overloadpacket):
            self.total += count(*args, **(kwargs or {}), out_val=result)
        return result


def counted_flops(model: Model, batch: Batch, precision: str = "32") -> float:
    """The floating-point operations that a forward and backward pass runs."""
    with Counter() as counter:
        backward(model, batch, precision)
    return float(counter.total)


def random_batch(n: int, side: int = 32) -> Batch:
    images = torch.randint(0, 256, (n, 3, side, side), dtype=torch.uint8)
    return Batch(normalise(images), torch.randint(0, 10, (n,)), torch.arange(n))


def local_dim(units: int, **options: Any) -> DeepInfoMax:
    """Table 1's DIM(L): infoNCE, encode-and-dot critic, prior matching."""
    torch.manual_seed(0)
    return DeepInfoMax(local_objective="infonce", units=units, **options)


def prepared(model: Model, n: int) -> Model:
    if isinstance(model, NoiseAsTargets):
        model.make_targets(n)
    return model


def backward(model: Model, batch: Batch, precision: str = "32") -> Tensor:
    """Gradients of the whole loss; with precision "bf16", products as under --trainer.precision bf16-mixed."""
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        loss = torch.stack(list(model.losses(batch).losses.values())).sum()
    loss.backward()
    return loss.detach()


def stepper(model: Model, batch: Batch, precision: str = "32") -> Callable[[], Tensor]:
    """A whole training step: losses, backward pass, fused Adam."""
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-4, betas=(0.5, 0.999), fused=True)

    def step() -> Tensor:
        optimiser.zero_grad()
        loss = backward(model, batch, precision)
        optimiser.step()
        return loss

    return step
