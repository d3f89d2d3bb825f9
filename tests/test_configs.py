"""Every YAML under configs/ is parsed by the real command and takes a step."""

from pathlib import Path

import pytest
import torch

from dim import fit
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
