"""`dim fit`, `validate` and `test`: LightningCLI with a folder for each run."""

import contextlib
import io
import logging
import re
import signal
import sys
import warnings
from pathlib import Path
from typing import Any, Literal

import torch
import yaml
from jsonargparse import ArgumentError
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback, instantiate_class
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.utilities.rank_zero import rank_zero_only

from dim import checkpoints, cpu, release, resuming, slurm
from dim.callbacks import Bar, PlainProgress, RunCheckpoint
from dim.compiling import compile_parts
from dim.data import ImageData
from dim.errors import UserError, at_least, behind
from dim.files import replacing
from dim.models import Model
from dim.models.base import NOT_FINITE
from dim.monitoring import CodeWatch, OnlineProbe, Pictures, Summary, VitalSigns, boards
from dim.resuming import CONFIG
from dim.suggestions import clearer

LOGS = "logs"
CALLBACKS: dict[str, type[Callback]] = {
    "checkpoint": RunCheckpoint,
    "pictures": Pictures,
    "probe": OnlineProbe,
    "codes": CodeWatch,
}
"""Callbacks with options of their own on the command line."""


class SaveRunConfig(SaveConfigCallback):
    """Writes the resolved config into the run's folder, once training is sure to begin."""

    def __init__(
        self, parser: LightningArgumentParser, config: Any, folder: Path, replaced: list[Path], run: RunCheckpoint
    ) -> None:
        super().__init__(parser, config, save_to_log_dir=False)
        self.folder, self.replaced, self.run = folder, replaced, run
        self.text = ""

    def save_config(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        # What the folder's config says is how to train the run, not how it was last resumed.
        config = self.config.clone()
        config.ckpt_path, config.overwrite = None, False
        self.text = self.parser.dump(config, skip_unset=False)
        self.run.run = {"name": config.name, "config": self.text}

    def on_train_batch_end(self, trainer: Trainer, *args: Any) -> None:
        # Only after a step are data, model and checkpoint known to be good: an earlier run may give way.
        if self.text and trainer.is_global_zero:
            for path in self.replaced:
                path.unlink(missing_ok=True)  # what a killed run had half-written is gone already
            with replacing(self.folder / CONFIG, "w") as file:
                file.write(self.text)
            for board in boards(trainer):
                board.add_text("config", "```yaml\n" + self.text + "```")
            self.text = ""


class Cli(LightningCLI):
    """The trainer's command line; see `dim fit --help`."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument("--name", default="run", help="name of the run; the configs give their own")
        parser.add_argument("--runs", type=Path, default=Path("runs"), help="where runs live: RUNS/DATA/NAME")
        parser.add_argument("--overwrite", type=bool, default=False, help="replace the run that the folder holds")
        precisions = Literal["highest", "high", "medium"]
        parser.add_argument(
            "--matmul_precision", type=precisions, default="highest", help="of float32 products; high is TF32 on GPUs"
        )
        parser.add_argument("--compile", type=bool, default=False, help="torch.compile encoder, critics and decoder")
        for name, callback in CALLBACKS.items():
            parser.add_lightning_class_args(callback, name)
        parser.link_arguments("seed_everything", "data.init_args.seed", compute_fn=_seed)

    def _parse_ckpt_path(self) -> None:
        """The command line, not the checkpoint, says how to go on."""

    @property
    def options(self) -> Any:
        return self.config[self.subcommand]

    @property
    def built(self) -> Any:
        """The options with their classes instantiated."""
        return self.config_init[self.subcommand]

    @property
    def run(self) -> Path:
        """This run's folder."""
        source = self.options.data.init_args.source
        return Path(self.options.runs) / source / self.options.name

    def before_instantiate_classes(self) -> None:
        options, run = self.options, self.run
        if not run.resolve().is_relative_to(Path(options.runs).resolve()) or not Path(options.name).parts:
            raise UserError(f"name is '{options.name}': it must be a folder below {options.runs}")
        if isinstance(options.seed_everything, bool):
            raise UserError("seed_everything must be a number: it decides the order of the images too")
        torch.set_float32_matmul_precision(options.matmul_precision)
        options.weights_only = True  # never unpickle what a user was given
        if self.subcommand == "fit" and slurm.restarted():
            self._go_on(run)
        if options.ckpt_path == "last":
            options.ckpt_path = str(run / checkpoints.FOLDER / checkpoints.LAST)
        if options.ckpt_path:
            options.ckpt_path = str(checkpoints.find_checkpoint(options.ckpt_path))
            if self.subcommand != "fit" and Path(options.ckpt_path).suffix == release.SUFFIX:
                raise UserError(
                    f"{options.ckpt_path} holds an encoder alone, without the critics or decoders that losses need: "
                    "give a run's checkpoint, or take dim evaluate"
                )
            content = checkpoints.read_checkpoint(options.ckpt_path)
            resuming.refuse_other_model(content, options)
            if self.subcommand == "fit":
                resuming.refuse_other_data(content, options)
            elif self.subcommand == "validate":
                resuming.tell_of_seen(content, options)
        elif self.subcommand != "fit":
            raise UserError(f"dim {self.subcommand} needs --ckpt_path CHECKPOINT (or last, for this run's)")
        if self.subcommand == "fit" and getattr(rank_zero_only, "rank", 0) == 0:
            resuming.refuse_used(run, options)

    def _go_on(self, run: Path) -> None:
        """Makes the command of a requeued job that which continues what the job has done before."""
        last = run / checkpoints.FOLDER / checkpoints.LAST
        if not last.exists():
            self.options.overwrite = True  # stopped before its first checkpoint
        elif checkpoints.read_checkpoint(last).get("run", {}).get("job") == slurm.job():
            self.options.ckpt_path = str(last)

    def instantiate_classes(self) -> None:
        try:
            super().instantiate_classes()
        except ValueError as error:  # the parser's, of a logger or callback that needs a package
            if lacks := re.search(r"Requirement '.+?' not met|No module named '.+?'", str(error)):
                raise UserError(f"{lacks[0]}: install it, or leave out the option that needs it") from error
            raise

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        run, options = self.run, self.options
        trainer = self.built["trainer"]
        at_least(1, **{"trainer.accumulate_grad_batches": trainer.get("accumulate_grad_batches", 1)})
        for name in ("log_every_n_steps", "gradient_clip_val"):
            at_least(0, **{f"trainer.{name}": trainer.get(name) or 0})
        if trainer.get("default_root_dir"):
            raise UserError("trainer.default_root_dir has no effect here: say where runs live with --runs FOLDER")
        kwargs["default_root_dir"] = str(run)
        plugins = trainer.get("plugins") or []
        kwargs["plugins"] = [
            *(plugins if isinstance(plugins, list) else [plugins]),
            checkpoints.AtomicCheckpointIO(),
        ]
        if trainer.get("logger") in (None, True):
            # Summary writes the hyper-parameters, beside the final numbers.
            logger = TensorBoardLogger(str(run), name="", version=LOGS, default_hp_metric=False)
            kwargs["logger"] = logger if self.subcommand == "fit" else False
        self.trainer_defaults["callbacks"] = [*self._progress(trainer), VitalSigns(), Summary()]
        self.save_config_kwargs = {
            "folder": run,
            "replaced": self._files(run) if options.overwrite and not options.ckpt_path else [],
            "run": self.built["checkpoint"],
        }
        try:
            return super().instantiate_trainer(**kwargs)
        except (ValueError, TypeError, ImportError) as error:  # what Lightning has against the options, or lacks
            raise UserError(f"trainer: {error}") from error

    @staticmethod
    def _files(run: Path) -> list[Path]:
        """What an earlier run left, listed before the new one's logger begins to write."""
        places = [*(run / checkpoints.FOLDER).rglob("*"), *(run / LOGS).rglob("*"), run / NOT_FINITE]
        places += run.glob("hpc_ckpt_*.ckpt")  # Lightning's own, which it would go on from unasked
        return [path for path in places if path.is_file()]

    def _progress(self, trainer: Any) -> list[Callback]:
        if trainer.get("enable_progress_bar") is False:
            return []
        if sys.stdout.isatty():
            return [Bar()]
        trainer["enable_progress_bar"] = False
        return [PlainProgress()]

    def _run_subcommand(self, subcommand: str) -> None:
        try:
            super()._run_subcommand(subcommand)
        except BaseException:
            # Processes that this one began would wait for it in a collective, which SIGTERM does not end. Only now: to
            # give up a GPU waits for what it still has to do with theirs.
            if (kill := getattr(self.trainer.strategy.launcher, "kill", None)) is not None:
                kill(signal.SIGKILL)
            raise

    def before_fit(self) -> None:
        """What contradicts itself is refused before any data is read."""
        processes = self.trainer.num_devices * self.trainer.num_nodes
        batch = self.datamodule.hparams["batch_size"]
        self.model.check(batch, processes, training=True)
        self.model.started = bool(self.options.ckpt_path)
        if processes > 1 and self.trainer.is_global_zero:
            print(f"batches of {processes * batch} images, {batch} in each of {processes} processes", flush=True)
        self.built["probe"].check(self.model.encoder)
        if self.trainer.is_global_zero and (idle := self.model.idle()):
            print(f"dim: note: nothing reads {', '.join(idle)}: what they are of has no weight here", file=sys.stderr)
        if not self.options.compile:
            return
        if self.trainer.world_size > 1 and self.model.hparams["union_statistics"]:
            raise UserError(
                "--compile true on several processes cannot compile batch statistics over them: add "
                "--model.union_statistics false"
            )
        compile_parts(self.model)

    def after_fit(self) -> None:
        if self.trainer.fast_dev_run:  # type: ignore[attr-defined]
            print("it runs; nothing was kept")
        elif self.trainer.is_global_zero:
            folder = self.run
            if not (folder / checkpoints.FOLDER / checkpoints.LAST).exists():
                raise UserError("no step was taken: trainer.max_epochs, max_steps or limit_train_batches leaves none")
            print(f"checkpoints: {folder / checkpoints.FOLDER}")
            if boards(self.trainer):
                print(f"logs: tensorboard --logdir {folder / LOGS}")


def _seed(value: Any) -> int:
    seed = int(value)
    if not 0 <= seed < 2**32:
        raise UserError(f"seed_everything is {seed}: it must be at least 0 and below 2^32")
    return seed


def _quieten() -> None:
    """Keeps advertisements and warnings that nobody can act on out of the output."""
    warnings.filterwarnings("ignore", message=".*LeafSpec.*")
    warnings.filterwarnings("ignore", message="Total length of .* across ranks is zero")
    for name in ("pytorch_lightning.utilities.rank_zero", "lightning_fabric.utilities.rank_zero"):
        logging.getLogger(name).addFilter(lambda record: "Tip:" not in record.getMessage())


ABOUT = {
    "fit": "Trains a model: `dim fit --config configs/cifar10/vae.yaml --data.root DATA`; in two processes with "
    "`--trainer.devices 2 --trainer.strategy ddp`. A run that was stopped goes on with `--ckpt_path last`.",
    "validate": "Losses of a run on held-out images: `dim validate --config RUN/config.yaml --ckpt_path last`.",
    "test": "Losses of a run on test images, in whole batches (a --data.batch_size that divides their number leaves "
    "none out): `dim test --config RUN/config.yaml --ckpt_path last`.",
}
MORE = "Options of a model and of the data have pages of their own: --model.help DeepInfoMax and --data.help."


def check(arguments: list[str]) -> None:
    """Looks whether `dim fit ARGUMENTS` can train: parses them and builds the model, without reading any data.

    Raises:
        UserError: an option does not exist or is not of its kind, or what it says cannot be.
    """
    command_line, printed = sys.argv, io.StringIO()
    try:
        with contextlib.redirect_stdout(printed):
            run("fit", ["--print_config", *arguments])
    except SystemExit as stopped:
        if stopped.code:
            raise
    finally:
        sys.argv = command_line
    config = yaml.safe_load(printed.getvalue())
    instantiate_class((), config["data"])
    with torch.random.fork_rng(devices=[]):
        model: Model = instantiate_class((), config["model"])
    devices, nodes = config["trainer"]["devices"], config["trainer"]["num_nodes"]
    processes = devices * nodes if isinstance(devices, int) and devices > 0 else 1
    model.check(config["data"]["init_args"]["batch_size"], processes, training=True)


def run(command: str, arguments: list[str]) -> None:
    """Runs `dim COMMAND ARGUMENTS`, COMMAND being one of the trainer's."""
    cpu.tune()
    _quieten()
    # LightningCLI reads the command line itself, and so do the processes that a multi-device run starts.
    sys.argv = [sys.argv[0], command, *arguments]
    options: dict[str, Any] = {"exit_on_error": False, "allow_abbrev": False}
    try:
        Cli(
            Model,
            ImageData,
            subclass_mode_model=True,
            subclass_mode_data=True,
            seed_everything_default=0,
            save_config_callback=SaveRunConfig,
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
            parser_kwargs=options
            | {name: {**options, "description": f"{about} {MORE}"} for name, about in ABOUT.items()}
            | {"predict": options},
        )
    except UnicodeDecodeError as error:
        files = [word.removeprefix("--config=") for word in arguments]
        same = (word for word in files if Path(word).is_file() and Path(word).read_bytes() == error.object)
        wrong = f"{error.reason} at byte {error.start}"
        raise UserError(f"{next(same, 'a --config')} is no text ({wrong}): give a YAML config") from error
    except ArgumentError as error:
        if known := behind(error):
            raise known from None
        if f"are required: {command}." in str(error):
            raise UserError(f"dim {command} needs a model and data: --config configs/DATA/MODEL.yaml") from error
        own = (
            "config",
            "name",
            "runs",
            "overwrite",
            "compile",
            "matmul_precision",
            "seed_everything",
            "model",
            "data",
            "ckpt_path",
        )
        groups = dict.fromkeys(own) | {"trainer": Trainer, **CALLBACKS}
        raise UserError(clearer(str(error), groups, f"dim {command}")) from error
