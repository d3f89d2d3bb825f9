"""What a checkpoint and a run's folder have to say before `dim fit`, `validate` or `test` uses them.

`options` are those of the command line, before anything is built of them. What cannot be is a UserError.
"""

import importlib
import inspect
import sys
from pathlib import Path
from typing import Any

from pytorch_lightning.utilities.rank_zero import rank_zero_only

from dim import checkpoints
from dim.errors import UserError

CONFIG = "config.yaml"


def refuse_other_model(checkpoint: dict[str, Any], options: Any) -> None:
    """A checkpoint continues with the settings it was trained with: its optimiser's state would win anyway."""
    path, model = options.ckpt_path, options.model
    wanted = model.class_path.rpartition(".")[2]
    saved = checkpoint.get("run", {}).get("model", wanted)
    if saved != wanted:
        raise UserError(f"{path} is of a {saved}, the command asks for a {wanted}")
    hparams = checkpoint.get("hyper_parameters", {})
    for name, value in model.init_args.items():
        # A checkpoint from before an option was there was trained as the option's default does it.
        was = hparams[name] if name in hparams else _default(model.class_path, name)
        if hparams and _plain(was) != _plain(value):
            raise UserError(f"{path} was trained with {name}={was}, the command says {value}: make them equal")


def refuse_other_data(checkpoint: dict[str, Any], options: Any) -> None:
    """What a run was trained on is what its card and its results say: one data set from beginning to end."""
    was, now = checkpoint.get("datamodule_hyper_parameters", {}), options.data.init_args
    for name in ("source", "image_size", "validation"):
        if name in was and was[name] != now[name]:
            raise UserError(
                f"{options.ckpt_path} was trained with data.{name}={was[name]}, the command says {now[name]}: "
                "make them equal"
            )


def tell_of_seen(checkpoint: dict[str, Any], options: Any) -> None:
    """Images that a run was trained on are no held-out ones."""
    was, now = checkpoint.get("datamodule_hyper_parameters", {}), options.data.init_args
    held_out = was.get("validation")
    first = getattr(rank_zero_only, "rank", 0) == 0
    if first and was.get("source") == now.source and now.validation and held_out != now.validation:
        print(
            f"dim: warning: trained with data.validation={held_out}: images that are held out now were trained on",
            file=sys.stderr,
        )


def _default(class_path: str, option: str) -> Any:
    """What a model's option is if nothing is said."""
    module, _, name = class_path.rpartition(".")
    for kind in getattr(importlib.import_module(module), name).__mro__:
        if option in (known := inspect.signature(kind.__init__).parameters):
            return known[option].default
    return None


def refuse_used(run: Path, options: Any) -> None:
    """A folder that holds a run is used again only to go on with it, or where it may be replaced."""
    used = (run / CONFIG).exists() or (run / checkpoints.FOLDER).exists()
    resumed = options.ckpt_path and Path(options.ckpt_path).resolve().is_relative_to(run.resolve())
    if used and not resumed and not options.overwrite:
        last = (run / checkpoints.FOLDER / checkpoints.LAST).exists()
        resume = "resume it with --ckpt_path last" if last else "it saved no checkpoint to resume from"
        raise UserError(
            f"{run} already holds a run: {resume}, replace it with --overwrite true, or choose another --name"
        )
    if resumed and not options.overwrite:
        _refuse_older(run / checkpoints.FOLDER / checkpoints.LAST, Path(options.ckpt_path))


def _refuse_older(last: Path, chosen: Path) -> None:
    """To go on from an earlier checkpoint of a run would replace what it has trained since."""
    if not last.exists() or chosen.samefile(last):
        return
    step, newest = (checkpoints.read_checkpoint(path)["global_step"] for path in (chosen, last))
    if step < newest:
        raise UserError(
            f"{chosen} is of step {step}, and {last.name} beside it of step {newest}, which would be lost: go on "
            "under another --name, or add --overwrite true"
        )


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
