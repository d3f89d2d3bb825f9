"""Encoders: images (N, 3, S, S) in [-1, 1] -> a dict of named outputs.

Every encoder gives `local` (the feature map that local critics see), `y` (the code) and the layers that are probed:
`conv` (the last convolutional map, flattened) and, but for those of multiple globals, `fc` (the hidden layer). A new
one is a class here that names its outputs and carries the decorator.
"""

import itertools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn

from dim.errors import UserError
from dim.networks.inputs import check_images
from dim.networks.modes import evaluating

ENCODERS: dict[str, type["Encoder"]] = {}
LAYERS = ("conv", "fc", "y")
"""The outputs that classifiers are fitted on (table 1), where an encoder has them."""


def encoder(name: str) -> Callable[[type["Encoder"]], type["Encoder"]]:
    """Decorator: offers an encoder under `name`."""

    def register(cls: type[Encoder]) -> type[Encoder]:
        if name in ENCODERS:
            raise UserError(f"there is an encoder '{name}' already: give it another name")
        ENCODERS[name] = cls
        return cls

    return register


def encoder_class(name: str) -> type["Encoder"]:
    """The class of the encoder called `name`.

    Raises:
        UserError: there is none.
    """
    if name not in ENCODERS:
        raise UserError(
            f"there is no encoder '{name}': choose one of {', '.join(ENCODERS)}, or let DIM_IMPORT name the module of "
            "your own"
        )
    return ENCODERS[name]


def build_encoder(name: str, code_size: int) -> "Encoder":
    """The encoder called `name` with a code of `code_size` numbers, freshly initialised.

    Raises:
        UserError: there is none.
    """
    return encoder_class(name)(code_size)


def rebuild_encoder(name: str, code_size: int, state: Mapping[str, Tensor], origin: str | Path) -> "Encoder":
    """The encoder called `name` with exactly these weights, in eval mode, channels last; `origin` is for messages.

    Raises:
        UserError: a weight is missing, too many or of another shape.
    """
    encoder = build_encoder(name, code_size)
    try:
        encoder.load_state_dict(dict(state))
    except RuntimeError as error:
        raise UserError(f"{origin} does not fit the encoder '{name}': {' '.join(str(error).split())}") from error
    return encoder.to(memory_format=torch.channels_last).eval()


class Shapes(dict[str, tuple[int, ...]]):
    """Output -> shape for one image; to ask for an output that the encoder called `owner` lacks is a UserError."""

    def __init__(self, owner: str, shapes: Mapping[str, tuple[int, ...]]) -> None:
        super().__init__(shapes)
        self.owner = owner

    def __missing__(self, output: str) -> tuple[int, ...]:
        raise UserError(f"{self.owner} gives no output {output}, which this model needs")


class Encoder(nn.Module):
    """Base of all encoders; subclasses define `image_size` and `forward`.

    Attributes:
        image_size: side of the images in pixels.
        layers: the outputs that are probed.
        rectified: whether `y` ends in a ReLU.
    """

    image_size: ClassVar[int]
    layers: ClassVar[tuple[str, ...]] = LAYERS
    rectified: ClassVar[bool] = False

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of each output for one image, found by encoding a blank one.

        Raises:
            UserError: what a subclass gives is no dict, or lacks an output that the package uses.
        """
        blank = next(self.parameters()).new_zeros(1, 3, self.image_size, self.image_size)
        with evaluating(self):
            outputs = self(blank)
        found = set(outputs) if isinstance(outputs, dict) else set()
        if lacking := {"local", "y", *self.layers} - found:
            raise UserError(
                f"{type(self).__name__} gives no output {', '.join(sorted(lacking))}: its forward must return a dict "
                "of named outputs, local, y and those in layers among them"
            )
        return Shapes(type(self).__name__, {name: tuple(output.shape[1:]) for name, output in outputs.items()})

    def features(self, images: Tensor) -> dict[str, Tensor]:
        """The probed layers of images, each flattened to (N, D).

        Args:
            images: (N, 3, S, S), RGB, in [-1, 1]: for uint8, `images.float() / 127.5 - 1`. They are looked at, which
                waits for the device; `forward` does not look.

        Raises:
            UserError: images that are not scaled, or of another size.
        """
        check_images(images, self.image_size)
        outputs = self(images)
        return {layer: outputs[layer].flatten(1) for layer in self.layers}


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


def alexnet_convs() -> tuple[nn.Sequential, nn.Sequential]:
    """The AlexNet-like convolutions (appendix A.2) up to the local map (384) and from there to the last (192)."""

    def conv(channels: int, out: int) -> nn.Sequential:
        return conv_block(channels, out, kernel=3, stride=1)

    # Pooling without padding takes 16x16 crops to 1x1, as the folded form needs.
    first = nn.Sequential(conv(3, 96), nn.MaxPool2d(3, 2), conv(96, 192), nn.MaxPool2d(3, 2), conv(192, 384))
    return first, nn.Sequential(conv(384, 384), conv(384, 192), nn.MaxPool2d(3, 2))


@encoder("alexnet64")
class AlexNetEncoder64(Encoder):
    """AlexNet-like, for 64x64 images (STL-10, Tiny ImageNet): local 384x15x15, conv 192x7x7, fc 4096."""

    image_size = 64

    def __init__(self, code_size: int) -> None:
        super().__init__()
        self.first, self.second = alexnet_convs()
        self.fc = nn.Sequential(linear_block(192 * 7 * 7, 4096), linear_block(4096, 4096))
        self.y = nn.Linear(4096, code_size)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        local = self.first(images)
        conv = self.second(local)
        hidden = self.fc(conv.flatten(1))
        return {"local": local, "conv": conv, "fc": hidden, "y": self.y(hidden)}


class Bottleneck(nn.Module):
    """Residual block 1x1, 3x3, 1x1 to four times the width."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        out = 4 * width
        self.body = nn.Sequential(
            conv_block(channels, width, 1, 1, 0),
            conv_block(width, width, 3, stride, 1),
            nn.Conv2d(width, out, 1, bias=False),
            nn.BatchNorm2d(out),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels != out:
            self.shortcut = nn.Sequential(nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out))

    def forward(self, maps: Tensor) -> Tensor:
        return torch.relu(self.body(maps) + self.shortcut(maps))


def resnet_convs() -> nn.Sequential:
    """The ResNet of the comparison with CPC: 3x3 conv of stride 2, then two blocks each of 64, 128 and 256."""
    layers: list[nn.Module] = [conv_block(3, 64, 3)]
    channels = 64
    for width, stride in ((64, 1), (128, 2), (256, 2)):
        for block_stride in (stride, 1):
            layers.append(Bottleneck(channels, width, block_stride))
            channels = 4 * width
    return nn.Sequential(*layers)


class _FoldedEncoder(Encoder):
    """Crops at a stride of half their side, each encoded alone to 1x1, put back as a 7x7 map: local and conv."""

    GRID: ClassVar[int] = 7
    channels: ClassVar[int]

    def __init__(self, code_size: int) -> None:
        super().__init__()
        self.crop = self.image_size // 4
        self.convs = self.build_convs()

    def build_convs(self) -> nn.Module:
        """Maps crops (N, 3, C, C) to (N, channels, 1, 1)."""
        raise NotImplementedError

    def fold(self, images: Tensor) -> Tensor:
        """Images -> the map of separately encoded crops, (N, channels, 7, 7)."""
        half = self.crop // 2
        crops = images.unfold(2, self.crop, half).unfold(3, self.crop, half)  # (N, 3, 7, 7, C, C)
        rows = crops.permute(0, 2, 3, 1, 4, 5).flatten(0, 2).contiguous(memory_format=torch.channels_last)
        return self.convs(rows).view(len(images), self.GRID, self.GRID, self.channels).permute(0, 3, 1, 2)


class _FoldedSingle(_FoldedEncoder):
    """One global vector: hidden layers and Y on the flattened map."""

    hidden: ClassVar[tuple[int, ...]]

    def __init__(self, code_size: int) -> None:
        super().__init__(code_size)
        sizes = (self.channels * self.GRID**2, *self.hidden)
        self.fc = nn.Sequential(*(linear_block(a, b) for a, b in itertools.pairwise(sizes)))
        self.y = nn.Linear(sizes[-1], code_size)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        maps = self.fold(images)
        hidden = self.fc(maps.flatten(1))
        return {"local": maps, "conv": maps, "fc": hidden, "y": self.y(hidden)}


class _FoldedGlobals(_FoldedEncoder):
    """Multiple globals: two convolutions on the folded map give 5x5 vectors, `y` (N, Y, 5, 5); there is no fc.

    The paper's vectors have 192 numbers: use code_size 192. They end in a ReLU, so that their sigmoid is never below
    1/2 and cannot match a uniform prior: use gamma 0.
    """

    layers, rectified = ("conv", "y"), True

    def __init__(self, code_size: int) -> None:
        super().__init__(code_size)
        self.y = nn.Sequential(conv_block(self.channels, code_size, 3, 1, 0), conv_block(code_size, code_size, 1, 1, 0))

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        maps = self.fold(images)
        return {"local": maps, "conv": maps, "y": self.y(maps)}


class _Folded32(_FoldedEncoder):
    image_size, channels = 32, 1024

    def build_convs(self) -> nn.Module:
        return resnet_convs()


class _Folded64(_FoldedEncoder):
    image_size, channels = 64, 192

    def build_convs(self) -> nn.Module:
        return nn.Sequential(*alexnet_convs())


@encoder("folded32")
class FoldedResNet32(_Folded32, _FoldedSingle):
    """Folded ResNet for 32x32 images: crops of 8, local and conv 1024x7x7, fc 1024."""

    hidden = (1024,)


@encoder("folded64")
class FoldedAlexNet64(_Folded64, _FoldedSingle):
    """Folded AlexNet for 64x64 images: crops of 16, local and conv 192x7x7, fc 4096."""

    hidden = (4096, 4096)


@encoder("folded32_globals")
class FoldedResNetGlobals32(_Folded32, _FoldedGlobals):
    """Folded ResNet with 5x5 global vectors."""


@encoder("folded64_globals")
class FoldedAlexNetGlobals64(_Folded64, _FoldedGlobals):
    """Folded AlexNet with 5x5 global vectors."""
