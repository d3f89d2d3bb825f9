"""What a row may cost: the configs that are merged on top of its own, and how its encoder is evaluated."""

import functools
import inspect
from dataclasses import dataclass
from typing import Any, Literal

from dim.evaluation.battery import PROBES
from dim.evaluation.settings import ProtocolName
from dim.models import DeepInfoMax

BudgetName = Literal["smoke", "cpu", "sitting", "paper", "demo"]
Family = Literal["every model", "dot critics", "local concatenation critic"]


@dataclass(frozen=True)
class Evaluating:
    """How an encoder is evaluated: `dim evaluate --protocol PROTOCOL --only ONLY`."""

    protocol: ProtocolName
    only: tuple[str, ...]


@dataclass(frozen=True)
class Budget:
    """How much a row is trained and evaluated.

    Attributes:
        about: what to print for readers of a table.
        configs: (who gets it, file in configs/budget/), in the order of merging.
        probes: the evaluation of tables of MLP accuracies and of figures.
        battery: the evaluation of table 4.
    """

    about: str
    configs: tuple[tuple[Family, str], ...]
    probes: Evaluating
    battery: Evaluating


_TABLE4 = ("svm", "decoder", "mine", "ndm")
"""What its columns are of."""
_CPU: tuple[tuple[Family, str], ...] = (
    ("every model", "cpu"),
    ("dot critics", "cpu_dim"),
    ("local concatenation critic", "cpu_concat"),
)

BUDGETS: dict[BudgetName, Budget] = {
    "paper": Budget("the paper's training", (), Evaluating("full", PROBES), Evaluating("full", _TABLE4)),
    "sitting": Budget(
        "twenty epochs on two CPU cores",
        (*_CPU, ("every model", "twenty"), ("dot critics", "sitting")),
        Evaluating("quick", PROBES),
        Evaluating("standard", _TABLE4),
    ),
    "cpu": Budget("two epochs on two CPU cores", _CPU, Evaluating("quick", PROBES), Evaluating("standard", _TABLE4)),
    "smoke": Budget(
        "one epoch on two CPU cores",
        (*_CPU, ("every model", "smoke")),
        Evaluating("quick", ("mlp",)),
        # Table 4 has no MLP column: its quickest one.
        Evaluating("quick", ("svm",)),
    ),
    "demo": Budget(
        "the demo's ten epochs",
        (("every model", "demo"), *_CPU[1:]),
        # The decoder too, for the report's pictures.
        Evaluating("quick", (*PROBES, "decoder")),
        Evaluating("quick", _TABLE4),
    ),
}
"""The largest first, which is the order of reading; the demo's last."""


def default_budget(data: str) -> BudgetName:
    """The budget of a data set where none is asked for."""
    return "demo" if data == "digits" else "cpu"


def budget_configs(budget: Budget, config: dict[str, Any]) -> list[str]:
    """Names (in configs/budget/) of the files that `budget` merges on top of a row's own `config`, in order."""
    families = _families(config.get("model", {}))
    return [name for family, name in budget.configs if family in families]


def _families(model: dict[str, Any]) -> set[Family]:
    found: set[Family] = {"every model"}
    if not str(model.get("class_path", "")).endswith("DeepInfoMax"):
        return found
    options = _defaults() | model.get("init_args", {})
    parts = [part for part, weight in (("local", "beta"), ("global", "alpha")) if options[weight]]
    if any(options[f"{part}_critic"] == "dot" for part in parts):
        found.add("dot critics")
    if "local" in parts and options["local_critic"] == "concat":
        found.add("local concatenation critic")
    return found


@functools.cache
def _defaults() -> dict[str, Any]:
    return {name: option.default for name, option in inspect.signature(DeepInfoMax.__init__).parameters.items()}
