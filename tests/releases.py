"""A run and a release of it, freshly initialised: what is tested is the way from one to the other."""

import torch
import yaml

from dim import export
from dim.checkpoints import AtomicCheckpointIO
from dim.networks.encoders import build_encoder

NAME = "dim_local_infonce_cifar10"
CONFIG = {
    "seed_everything": 3,
    "trainer": {"max_epochs": 2, "accelerator": "cpu"},
    "model": {"class_path": "dim.models.DeepInfoMax", "init_args": {"encoder": "conv32", "code_size": 64}},
    "data": {
        "class_path": "dim.data.ImageData",
        "init_args": {"source": "cifar10", "root": "/somewhere/private", "validation": 500},
    },
    "name": "dim_local_infonce",
    "runs": "/elsewhere/private",
}


def a_run(folder, **changes):
    """A run's folder with a checkpoint of an untrained encoder; `changes` are made to the checkpoint."""
    torch.manual_seed(1)
    content = {
        "state_dict": {f"encoder.{name}": value for name, value in build_encoder("conv32", 64).state_dict().items()},
        "hyper_parameters": {"encoder": "conv32", "code_size": 64},
        "datamodule_hyper_parameters": {"source": "cifar10", "root": "/somewhere/private", "image_size": None},
        "epoch": 1,
        "global_step": 1562,
        "run": {
            "name": "dim_local_infonce",
            "model": "DeepInfoMax",
            "version": "0.1.0",
            "config": "# a comment\n" + yaml.safe_dump(CONFIG, sort_keys=False),
        },
    }
    AtomicCheckpointIO().save_checkpoint({**content, **changes}, folder / "checkpoints" / "last.ckpt")
    return folder


def a_release(folder, name=NAME, **options):
    """The file of a released encoder, FOLDER/NAME.safetensors."""
    return export.export(str(a_run(folder / "run")), folder / f"{name}.safetensors", **options)
