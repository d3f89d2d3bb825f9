"""Encoders: images (N, 3, S, S) in [-1, 1] -> a dict of named outputs.

Every encoder gives `local` (the feature map that local critics see), `conv` (the last convolutional map, probed
flattened), `fc` (the hidden layer, probed) and `y` (the code). A new one is a class here that names its outputs and
carries the decorator.
"""

import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from torch import Tensor, nn

from dim.errors import UserError

ENCODERS: dict[str, type["Encoder"]] = {}
LAYERS = ("conv", "fc", "y")
"""The outputs that classifiers are fitted on (table 1)."""


def encoder(name: str) -> Callable[[type["Encoder"]], type["Encoder"]]:
    """Decorator: offers an encoder under `name`."""

    def register(cls: type[Encoder]) -> type[Encoder]:
        ENCODERS[name] = cls
        return cls

    return register


def build_encoder(name: str, code_size: int) -> "Encoder":
    """The encoder called `name` with a code of `code_size` numbers, freshly initialised."""
    if name not in ENCODERS:
        raise UserError(f"there is no encoder '{name}': choose one of {', '.join(ENCODERS)}")
    return ENCODERS[name](code_size)


class Encoder(nn.Module):
    """Base of all encoders; subclasses define `image_size` and `forward`."""

    image_size: ClassVar[int]

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of each output for one image, found by encoding a blank one."""
        device = next(self.parameters()).device
        training = self.training
        with torch.no_grad():
            outputs = self.eval()(torch.zeros(1, 3, self.image_size, self.image_size, device=device))
        self.train(training)
        return {name: tuple(output.shape[1:]) for name, output in outputs.items()}

    def features(self, images: Tensor) -> dict[str, Tensor]:
        """The probed layers of images in [-1, 1], each flattened to (N, D)."""
        outputs = self(images)
        return {layer: outputs[layer].flatten(1) for layer in LAYERS}


def conv_block(channels: int, out: int, kernel: int = 4, stride: int = 2, padding: int = 1) -> nn.Sequential:
    """Convolution without bias, batch norm, ReLU."""
    return nn.Sequential(
        nn.Conv2d(channels, out, kernel, stride, padding, bias=False),
        nn.BatchNorm2d(out),
        nn.ReLU(inplace=True),
    )


def linear_block(features: int, out: int) -> nn.Sequential:
    """Linear layer without bias, batch norm, ReLU."""
    return nn.Sequential(nn.Linear(features, out, bias=False), nn.BatchNorm1d(out), nn.ReLU(inplace=True))


class _ConvEncoder(Encoder):
    """4x4 convolutions of stride 2, the last but one (the map of 8x8 positions) being the local map."""

    widths: ClassVar[tuple[int, ...]]

    def __init__(self, code_size: int) -> None:
        super().__init__()
        channels = (3, *self.widths)
        self.convs = nn.ModuleList(conv_block(a, b) for a, b in itertools.pairwise(channels))
        self.fc = linear_block(channels[-1] * 4 * 4, 1024)
        self.y = nn.Linear(1024, code_size)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        maps = [images]
        for block in self.convs:
            maps.append(block(maps[-1]))
        hidden = self.fc(maps[-1].flatten(1))
        return {"local": maps[-2], "conv": maps[-1], "fc": hidden, "y": self.y(hidden)}


@encoder("conv32")
class ConvEncoder32(_ConvEncoder):
    """The paper's encoder for 32x32 images: local 128x8x8, conv 256x4x4, fc 1024 (appendix A.2)."""

    image_size = 32
    widths = (64, 128, 256)


@encoder("conv64")
class ConvEncoder64(_ConvEncoder):
    """The same with one more convolution, for 64x64 images: local 256x8x8, conv 512x4x4, fc 1024."""

    image_size = 64
    widths = (64, 128, 256, 512)


if TYPE_CHECKING:
    EncoderName = str
else:
    EncoderName = Literal[tuple(ENCODERS)]
