"""PyTorch Hub: `torch.hub.load(CHECKOUT, "dim_local_infonce_cifar10", source="local")`.

Every encoder in checkpoints/ is an entry point under its name; `pretrained` takes any name or exported file.
"""

from pathlib import Path as _Path

from dim import release as _release

dependencies = ["torch", "safetensors"]

_FOLDER = _Path(__file__).parent / "checkpoints"


def pretrained(name):
    """A released encoder by its name, or a file of `dim export` by its path; see `dim.load_pretrained`."""
    return _release.load_pretrained(name, _FOLDER)


def _entry(name):
    def load():
        return pretrained(name)

    load.__name__ = name
    load.__doc__ = f"The released encoder {name}, in eval mode; checkpoints/{name}.md says all about it."
    return load


globals().update({_name: _entry(_name) for _name in _release.names(_FOLDER)})
