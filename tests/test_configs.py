"""Every YAML under configs/ is parsed by the real command and takes a step."""

import inspect
from pathlib import Path

import pytest
import torch
import yaml

from dim import fit
from dim.data import ImageData
from dim.models import DeepInfoMax
from dim.models.base import Model
from dim.reproduction.published import published

ROOT = Path(__file__).parent.parent / "configs"
BUDGETS = sorted((ROOT / "budget").glob("*.yaml"))
MODELS = sorted(path for path in ROOT.glob("*/*.yaml") if path.parent.name != "budget")
FOR_DIM_ALONE = ("cpu_dim", "cpu_concat")
# Real images that are always there, and sizes that make a step quick.
SMALL = ["--data.source", "digits", "--data.batch_size", "8", "--trainer.accelerator", "cpu", "--trainer.devices", "1"]
STEP = ["--trainer.max_steps", "1", "--trainer.enable_model_summary", "false", "--pictures.every_n_epochs", "0"]


def take_a_step(tmp_path, *arguments):
    fit.run("fit", [*arguments, *SMALL, *STEP, "--runs", str(tmp_path)])
    (last,) = tmp_path.glob("digits/*/checkpoints/last.ckpt")
    return torch.load(last, weights_only=True)


@pytest.mark.parametrize("path", MODELS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_config_takes_a_step_and_is_named_after_its_file(path, tmp_path):
    checkpoint = take_a_step(tmp_path, "--config", str(path))
    assert checkpoint["global_step"] == 1
    assert checkpoint["run"]["name"] == path.stem


LOCAL = {"alpha": 0.0, "beta": 1.0, "gamma": 0.1, "local_critic": "dot"}
CONCAT = {"gamma": 0.1, "local_critic": "concat", "local_objective": "jsd"}
ROWS = {
    "supervised": {},
    "ae": {"kl_weight": 0.0},
    "vae": {"kl_weight": 1.0},
    "beta_vae": {"kl_weight": 0.5},
    "aae": {"prior": "gaussian"},
    "bigan": {},
    "nat": {"period": 2},
    "dim_global": {"alpha": 1.0, "beta": 0.0, "gamma": 1.0, "global_critic": "concat", "global_objective": "jsd"},
    "dim_local_dv": {**LOCAL, "local_objective": "dv"},
    "dim_local_jsd": {**LOCAL, "local_objective": "jsd"},
    "dim_local_infonce": {**LOCAL, "local_objective": "infonce"},
    "dim_local_concat_jsd": {**CONCAT, "alpha": 0.0, "beta": 1.0},
    "dim_local_global": {**CONCAT, "alpha": 0.5, "beta": 0.1, "global_critic": "concat", "global_objective": "jsd"},
    "dim_local_infonce_coordinates": {**LOCAL, "local_objective": "infonce", "coordinates": "absolute"},
    "dim_local_infonce_occlusion": {**LOCAL, "local_objective": "infonce", "occlusion": True},
    "dim_local_infonce_coordinates_occlusion": {
        **LOCAL,
        "local_objective": "infonce",
        "coordinates": "absolute",
        "occlusion": True,
    },
}
"""What makes each row of the paper's tables what it is called."""


@pytest.mark.parametrize("data", ["cifar10", "cifar100"])
def test_every_row_is_what_it_is_called_and_trained_as_published(data):
    published_rows = {
        row["config"] for table in ("table1", "table4", "table5") for row in published()[table]["cifar10"]
    }
    assert published_rows == ROWS.keys()
    for name, own in ROWS.items():
        config = yaml.safe_load((ROOT / data / f"{name}.yaml").read_text())
        given = config["model"].get("init_args", {})
        assert given == own | ({"num_classes": 100} if (data, name) == ("cifar100", "supervised") else {}), name
        assert config["data"] == {"class_path": "dim.data.ImageData", "init_args": {"source": data}}
        assert config["trainer"] == {"max_epochs": 1000}
    # What no config says is the paper's: Adam 1e-4 (0.5, 0.999) without decay, batches of 64.
    checked = inspect.signature(Model.__init__).parameters
    expected = {"learning_rate": 1e-4, "betas": (0.5, 0.999), "weight_decay": 0.0, "schedule": "constant"}
    assert {option: checked[option].default for option in expected} == expected
    assert inspect.signature(ImageData.__init__).parameters["batch_size"].default == 64
    assert inspect.signature(DeepInfoMax.__init__).parameters["units"].default == 2048


@pytest.mark.parametrize("path", BUDGETS, ids=lambda path: path.stem)
def test_budget_merges_onto_a_model(path, tmp_path):
    model = "dim_local_concat_jsd" if path.stem == "cpu_concat" else "dim_local_infonce"
    checkpoint = take_a_step(tmp_path, "--config", str(ROOT / f"cifar10/{model}.yaml"), "--config", str(path))
    assert checkpoint["run"]["name"] == model
    if path.stem == "cpu_dim":
        assert checkpoint["hyper_parameters"]["units"] < 2048
    if path.stem == "sitting":
        assert checkpoint["hyper_parameters"]["weight_decay"] > 0
    if path.stem == "cpu_concat":
        assert checkpoint["hyper_parameters"]["negatives"] == 1


@pytest.mark.parametrize("path", [p for p in BUDGETS if p.stem not in FOR_DIM_ALONE], ids=lambda path: path.stem)
def test_general_budgets_serve_other_models_too(path, tmp_path):
    checkpoint = take_a_step(tmp_path, "--config", str(ROOT / "cifar10/ae.yaml"), "--config", str(path))
    assert checkpoint["run"]["model"] == "Autoencoder"


def test_every_published_row_has_its_config():
    for table in ("table1", "table4", "table5"):
        for data in ("cifar10", "cifar100"):
            for row in published()[table].get(data, []):
                assert (ROOT / data / f"{row['config']}.yaml").exists(), row


def test_both_data_sets_have_the_same_models():
    assert {p.stem for p in (ROOT / "cifar10").glob("*")} == {p.stem for p in (ROOT / "cifar100").glob("*")}
