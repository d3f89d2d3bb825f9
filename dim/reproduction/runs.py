"""One run of a row: its folder, how it is trained and evaluated, and how far it is."""

import dataclasses
import inspect
import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from dim.checkpoints import FOLDER, LAST
from dim.data import ImageData
from dim.errors import UserError
from dim.evaluation.battery import EVALUATIONS
from dim.evaluation.settings import PROTOCOLS, file_name
from dim.files import sha256, write_json
from dim.models import Model
from dim.networks.encoders import build_encoder, encoder_class
from dim.reproduction import recipes
from dim.reproduction.budgets import BUDGETS, BudgetName, Evaluating, budget_configs
from dim.reproduction.rows import Row

ENCODER = inspect.signature(Model).parameters["encoder"].default
CODE_SIZE = inspect.signature(Model).parameters["code_size"].default
BATCH_SIZE = inspect.signature(ImageData).parameters["batch_size"].default
RECORD, CONFIG, OUTPUT = "reproduction.json", "config.yaml", "output.log"
Stage = Literal["missing", "begun", "trained", "done", "stale"]


@dataclass(frozen=True)
class Places:
    """Where things are: `configs` and `runs` folders, and the data's `root` (None: the trainer's default)."""

    configs: Path
    runs: Path
    root: str | None = None
    download: bool = False


@dataclass(frozen=True)
class Run:
    """A row with one seed under one budget; plain values, so that it can be sent to another machine.

    Attributes:
        recipe: everything that decides the training, merged from configs and options.
        files: the configs, in the order of merging.
        options: of `dim fit`, on top of them.
    """

    row: Row
    data: str
    budget: BudgetName
    seed: int
    evaluating: Evaluating
    places: Places
    recipe: dict[str, Any] = field(hash=False)
    files: tuple[Path, ...]
    options: tuple[str, ...]

    @property
    def folder(self) -> Path:
        return self.places.runs / self.budget / self.data / self.row.name / f"seed{self.seed}"

    @property
    def last(self) -> Path:
        return self.folder / FOLDER / LAST

    @property
    def title(self) -> str:
        return f"{self.row.label}, {self.data}, seed {self.seed}"

    @property
    def epochs(self) -> int | None:
        return recipes.get(self.recipe, "trainer.max_epochs")

    @property
    def batch_size(self) -> int:
        return recipes.get(self.recipe, "data.init_args.batch_size", BATCH_SIZE)

    @property
    def validation(self) -> int:
        """Training images that it is trained without and judged on, instead of on test images; 0 for none."""
        return recipes.get(self.recipe, "data.init_args.validation", 0)

    @property
    def results(self) -> str:
        """The name of its results file."""
        return file_name(self.evaluating.protocol, self.validation)

    def fit_arguments(self) -> list[str]:
        """Of `dim`, to train this run from its beginning."""
        configs = [word for path in self.files for word in ("--config", str(path))]
        name = ["--name", f"{self.row.name}/seed{self.seed}", "--runs", str(self.places.runs / self.budget)]
        # Lightning would take all devices, each with a batch of its own: another training than the row's.
        one = [] if recipes.get(self.recipe, "trainer.devices") else ["--trainer.devices", "1"]
        return ["fit", *configs, *one, *self.options, "--seed_everything", str(self.seed), *name, *self._data()]

    def evaluate_arguments(self) -> list[str]:
        """Of `dim`, to evaluate its last checkpoint."""
        how = ["--protocol", self.evaluating.protocol, "--only", ",".join(self.evaluating.only)]
        judged = ["--data.validation", str(self.validation)] if self.validation else []
        return ["evaluate", str(self.folder), *how, "--seed", str(self.seed), *self._data(), *judged]

    def _data(self) -> list[str]:
        root = ["--data.root", self.places.root] if self.places.root else []
        return [*root, *(["--data.download", "true"] if self.places.download else [])]


def plan_run(
    row: Row,
    data: str,
    budget: BudgetName,
    seed: int,
    evaluating: Evaluating,
    places: Places,
    extra: tuple[str, ...] = (),
) -> Run:
    """The run of a row; `extra` are options of `dim fit` for every row.

    Raises:
        UserError: a config is not there or no YAML.
    """
    own = places.configs / data / f"{row.config}.yaml"
    if not own.is_file():
        raise UserError(f"{own} does not exist: run this in a checkout, or say where --configs are")
    config, options = recipes.read_config(own), (*row.options, *extra)
    # Chosen without the options, so that the points of a grid differ in these alone.
    above = [places.configs / "budget" / f"{name}.yaml" for name in budget_configs(BUDGETS[budget], config)]
    for path in above:
        config = recipes.merge(config, recipes.read_config(path))
    recipe = recipes.merge(config, recipes.parse_options(options)) | {"name": row.name, "seed_everything": seed}
    return Run(row, data, budget, seed, evaluating, places, recipe, (own, *above), options)


@dataclass(frozen=True)
class State:
    """How far a run is; `reason` says why it is stale, `error` how its last attempt failed."""

    stage: Stage
    reason: str = ""
    error: str | None = None


def read_record(folder: Path) -> dict[str, Any] | None:
    """What was written down when the run in `folder` was trained; None where nothing was."""
    path = folder / RECORD
    if not path.exists():
        return None
    try:
        content = json.loads(path.read_text("utf-8"))
        return content if content["schema_version"] == 1 else None
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is damaged: move the folder away to train the row again") from error


def write_record(folder: Path, record: dict[str, Any]) -> None:
    """Writes the record, whole."""
    write_json(folder / RECORD, record)


def read_evaluation(path: Path) -> dict[str, Any] | None:
    """The content of the results file of an evaluation, if there is one that can be read."""
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) and "identity" in content else None


def state(run: Run) -> State:
    """How far `run` is, from the files in its folder."""
    try:
        record = read_record(run.folder)
    except UserError as damage:
        return State("stale", str(damage))
    if record is None:
        used = (run.folder / CONFIG).exists() or (run.folder / FOLDER).exists()
        return State("stale", "the folder holds a run that was not made here") if used else State("missing")
    changed, error = recipes.differences(record["recipe"], run.recipe), record.get("error")
    if changed and not record["trained"] and not run.last.is_file():
        return State("missing")  # what failed before its first checkpoint may be tried otherwise
    if changed:
        return State("stale", f"its settings changed since: {', '.join(changed)}")
    if not record["trained"]:
        return State("begun" if run.last.is_file() else "missing", error=error)
    if not run.last.is_file():
        return State("stale", "its checkpoint is gone")
    if not (run.folder / CONFIG).is_file():
        return State("stale", f"its {CONFIG} is gone")
    if sha256(run.folder / CONFIG) != record["config_sha256"]:
        return State("stale", f"{CONFIG} was rewritten since it was trained here")
    return State("trained" if missing_evaluations(run, record) else "done", error=error)


def missing_evaluations(run: Run, record: dict[str, Any]) -> list[tuple[str, str]]:
    """(evaluation, layer) of what the results file lacks for this checkpoint, protocol and seed."""
    content = read_evaluation(run.folder / run.results)
    needed = needed_evaluations(run)
    if content is None or not belongs(run, content["identity"], record):
        return needed
    return [(name, layer) for name, layer in needed if layer not in content["results"].get(name, {})]


def belongs(run: Run, identity: dict[str, Any], record: dict[str, Any]) -> bool:
    """Whether results are of the run's last checkpoint, under its protocol and with its seed."""
    settings = dataclasses.asdict(PROTOCOLS[run.evaluating.protocol])
    protocol = json.loads(json.dumps({"name": run.evaluating.protocol, **settings}))
    return (
        identity["checkpoint_sha256"] == record["checkpoint_sha256"]
        and identity["protocol"] == protocol
        and identity["seeds"] == [run.seed]
        and identity["data"]["source"] == run.data
        and identity["data"].get("validation", 0) == run.validation
    )


def needed_evaluations(run: Run) -> list[tuple[str, str]]:
    """(evaluation, layer) of all that the run's evaluation consists of."""
    encoder = encoder_class(recipes.get(run.recipe, "model.init_args.encoder", ENCODER))
    needed = [(name, layer) for name in run.evaluating.only for layer in EVALUATIONS[name].of(encoder.layers)]
    supervised = recipes.get(run.recipe, "model.class_path", "").endswith("Supervised")
    # Its own classifier's accuracy is of test images.
    return [*needed, ("classifier", "y")] if supervised and not run.validation else needed


def all_negatives(run: Run) -> int:
    """Negatives of one positive of the local objective: every position of the map of every other image of its batch."""
    name = recipes.get(run.recipe, "model.init_args.encoder", ENCODER)
    encoder = build_encoder(name, recipes.get(run.recipe, "model.init_args.code_size", CODE_SIZE))
    return (run.batch_size - 1) * math.prod(encoder.shapes()["local"][1:])
