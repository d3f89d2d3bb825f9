"""Encoders, critics and decoders compiled by torch.compile, for training."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from dim.networks.critics import Critic
from dim.networks.decoders import Decoder
from dim.networks.encoders import Encoder

PARTS: dict[type[nn.Module], tuple[str, ...]] = {
    Encoder: ("forward",),
    Critic: ("keys", "queries"),
    Decoder: ("forward",),
}
"""What is compiled of each kind of network. Discriminators are not: their gradient penalty needs second derivatives."""


def compile_parts(model: nn.Module, backend: str | Callable[..., Any] = "inductor") -> None:
    """Replaces, in place, the methods of `PARTS` inside `model`; parameters and state dict stay the same.

    Each is one graph (a break in it is an error) for the one shape of the training batches. Evaluation, whose batches
    have other sizes, and hooks, which look at outputs from outside, run as before.
    """
    for module in model.modules():
        for kind, methods in PARTS.items():
            if isinstance(module, kind):
                for method in methods:
                    setattr(module, method, _compiled(module, getattr(module, method), backend))


def _compiled(module: nn.Module, eager: Callable[..., Any], backend: str | Callable[..., Any]) -> Callable[..., Any]:
    compiled = torch.compile(eager, fullgraph=True, dynamic=False, backend=backend)

    def method(*inputs: Any) -> Any:
        return (compiled if module.training else eager)(*inputs)

    return method
