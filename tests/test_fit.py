"""`dim fit` and its relatives, run as a user runs them, on real digits."""

import os
import shutil
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from pytorch_lightning.cli import LightningCLI
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import dim
from dim import checkpoints, cli, fit, release
from dim.errors import UserError
from dim.export import export
from dim.files import sha256
from dim.models import Model

CPU = ["--trainer.accelerator", "cpu", "--trainer.devices", "1", "--trainer.enable_model_summary", "false"]
QUICK = [
    "--data",
    "ImageData",
    "--data.source",
    "digits",
    "--data.batch_size",
    "32",
    *CPU,
    "--pictures.every_n_epochs",
    "0",
]
DIM = ["--model", "DeepInfoMax", "--model.units", "32", "--model.width", "32", "--model.code_size", "16"]
RUN = Path("digits/run")


def train(runs, *arguments, epochs=2):
    limits = ["--trainer.max_epochs", str(epochs), "--trainer.limit_train_batches", "4"]
    fit.run("fit", [*QUICK, *limits, *arguments, "--runs", str(runs)])


def checkpoint(runs, name="last.ckpt"):
    return torch.load(runs / RUN / "checkpoints" / name, weights_only=True)


def scalars(logs, name):
    return [event.value for event in EventAccumulator(str(logs)).Reload().Scalars(name)]


def equal(a, b):
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(equal, a, b))
    return a == b


MODELS = {
    "dim": [*DIM, "--model.alpha", "0.5", "--model.negatives", "2", "--model.occlusion", "true"],
    "ghost": [*DIM, "--model.ghost_batch", "8"],
    "vae": ["--model", "Autoencoder", "--model.kl_weight", "1"],
    "aae": ["--model", "AdversarialAutoencoder"],
    "bigan": ["--model", "BiGAN"],
    "nat": ["--model", "NoiseAsTargets", "--model.period", "1"],
    "supervised": ["--model", "Supervised", "--model.whitening", "true", "--model.weight_decay", "0.1"],
}


@pytest.mark.parametrize("model", MODELS)
def test_a_run_stopped_within_an_epoch_and_resumed_ends_with_the_same_bits(model, tmp_path, monkeypatch):
    train(tmp_path / "whole", *MODELS[model])
    step = Model.training_step

    def stop_at_the_sixth(self, batch, batch_idx):
        if self.global_step == 5:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(self, batch, batch_idx)

    monkeypatch.setattr(Model, "training_step", stop_at_the_sixth)
    with pytest.raises(SystemExit) as stopped:
        train(tmp_path / "parts", *MODELS[model])
    assert stopped.value.code == 128 + signal.SIGTERM
    assert checkpoint(tmp_path / "parts")["global_step"] == 6
    monkeypatch.setattr(Model, "training_step", step)
    train(tmp_path / "parts", *MODELS[model], "--ckpt_path", "last")
    whole, parts = checkpoint(tmp_path / "whole"), checkpoint(tmp_path / "parts")
    assert whole["global_step"] == parts["global_step"] == 8
    for part in ("state_dict", "optimizer_states", "lr_schedulers", "callbacks"):
        assert equal(whole[part], parts[part]), part


def test_whitening_changes_the_start_of_the_first_layer(tmp_path):
    weights = {}
    for whitening in ("false", "true"):
        folder = tmp_path / whitening
        rate = ["--model.learning_rate", "1e-9", "--model.whitening", whitening]
        train(folder, "--model", "Supervised", *rate, epochs=1)
        weights[whitening] = checkpoint(folder)["state_dict"]
    changed = {name for name, weight in weights["true"].items() if not torch.allclose(weight, weights["false"][name])}
    assert {name for name in changed if name.endswith("weight")} == {"encoder.convs.0.0.weight"}


def test_one_step_is_counted_for_each_batch_and_seeds_decide(tmp_path):
    adversarial = [*DIM, "--model.gamma", "1"]
    train(tmp_path / "a", *adversarial, epochs=1)
    train(tmp_path / "b", *adversarial, epochs=1)
    train(tmp_path / "c", *adversarial, "--seed_everything", "1", epochs=1)
    a, b, c = (checkpoint(tmp_path / name) for name in "abc")
    assert a["global_step"] == 4
    assert equal(a["state_dict"], b["state_dict"])
    assert not equal(a["state_dict"], c["state_dict"])
    assert c["datamodule_hyper_parameters"]["seed"] == 1


def test_a_used_folder_is_refused_and_replaced_only_when_asked(tmp_path):
    train(tmp_path, *DIM, epochs=1)
    before = (tmp_path / RUN / "checkpoints" / "last.ckpt").read_bytes()
    with pytest.raises(UserError, match="already holds a run"):
        train(tmp_path, *DIM, epochs=1)
    # Bad data under --overwrite must not cost the earlier run.
    with pytest.raises(UserError):
        train(tmp_path, *DIM, "--overwrite", "true", "--data.batch_size", "5000", epochs=1)
    assert (tmp_path / RUN / "checkpoints" / "last.ckpt").read_bytes() == before
    logs = set((tmp_path / RUN / "logs").iterdir())
    train(tmp_path, *DIM, "--overwrite", "true", "--seed_everything", "3", epochs=1)
    assert (tmp_path / RUN / "checkpoints" / "last.ckpt").read_bytes() != before
    assert not {path for path in logs if "tfevents" in path.name} & set((tmp_path / RUN / "logs").iterdir())


def test_a_run_leaves_config_checkpoints_and_logs(tmp_path):
    train(tmp_path, *DIM)
    run = tmp_path / RUN
    assert {"config.yaml", "checkpoints", "logs"} <= {path.name for path in run.iterdir()}
    assert {path.name for path in (run / "checkpoints").iterdir()} == {"last.ckpt", "epoch=0001.ckpt"}
    assert list((run / "logs").glob("events.out.tfevents*"))
    assert dim.load_encoder(run).shapes()["y"] == (16,)


def test_an_earlier_checkpoint_does_not_replace_later_training_unasked(tmp_path):
    train(tmp_path, *DIM, "--checkpoint.every_n_epochs", "1", epochs=3)
    first = str(tmp_path / RUN / "checkpoints" / "epoch=0000.ckpt")
    before = (tmp_path / RUN / "checkpoints" / "last.ckpt").read_bytes()
    with pytest.raises(UserError, match=r"is of step 4, and last\.ckpt beside it of step 12, which would be lost"):
        train(tmp_path, *DIM, "--ckpt_path", first, epochs=3)
    assert (tmp_path / RUN / "checkpoints" / "last.ckpt").read_bytes() == before
    train(tmp_path, *DIM, "--ckpt_path", first, "--name", "other", epochs=2)
    train(tmp_path, *DIM, "--ckpt_path", first, "--overwrite", "true", epochs=2)
    assert checkpoint(tmp_path)["global_step"] == 8
    level = str(tmp_path / RUN / "checkpoints" / "epoch=0001.ckpt")
    train(tmp_path, *DIM, "--ckpt_path", level, epochs=3)
    assert checkpoint(tmp_path)["global_step"] == 12


def test_the_precision_of_products_is_what_was_asked_for(tmp_path, monkeypatch):
    monkeypatch.setattr(torch, "set_float32_matmul_precision", (chosen := []).append)
    train(tmp_path, *MODELS["supervised"], "--matmul_precision", "high", epochs=1)
    assert chosen[0] == "high"
    with pytest.raises(UserError, match="matmul_precision"):
        train(tmp_path, *MODELS["supervised"], "--matmul_precision", "higher", "--name", "other", epochs=1)


def test_options_without_an_effect_are_told(tmp_path, capsys):
    train(tmp_path, *DIM, "--model.global_objective", "dv", epochs=1)
    assert "nothing reads global_objective, width: what they are of has no weight" in capsys.readouterr().err
    with pytest.raises(UserError, match="default_root_dir has no effect here: say where runs live with --runs"):
        train(tmp_path, *DIM, "--trainer.default_root_dir", str(tmp_path), "--name", "other", epochs=1)


def test_what_lightning_refuses_late_is_one_line(tmp_path, capsys):
    words = ["fit", *QUICK, "--model", "Supervised", "--runs", str(tmp_path), "--trainer.val_check_interval", "1000"]
    with pytest.raises(SystemExit) as stopped:
        cli.main([*words, "--trainer.max_epochs", "1"])
    assert stopped.value.code == 2
    assert "dim: error: `val_check_interval` (1000) must be less than or equal" in capsys.readouterr().err


def test_images_that_were_trained_on_are_no_held_out_ones(tmp_path, capsys):
    train(tmp_path, "--model", "Supervised", epochs=1)
    config = ["--config", str(tmp_path / RUN / "config.yaml"), "--ckpt_path", "last"]
    with pytest.raises(UserError, match=r"train with --data\.validation IMAGES"):
        fit.run("validate", config)
    fit.run("validate", [*config, "--data.validation", "64"])
    assert "trained with data.validation=0: images that are held out now were trained on" in capsys.readouterr().err


def test_the_run_s_config_is_read_again(tmp_path):
    train(tmp_path, *DIM, "--model.gamma", "1", epochs=1)
    run = tmp_path / RUN
    fit.run("test", ["--config", str(run / "config.yaml"), "--ckpt_path", "last"])
    with pytest.raises(UserError, match="needs --ckpt_path"):
        fit.run("validate", ["--config", str(run / "config.yaml")])


def test_validation_split_is_evaluated_each_epoch_and_on_its_own(tmp_path, monkeypatch):
    seen = []
    step = Model.validation_step

    def count(self, batch, batch_idx):
        step(self, batch, batch_idx)
        seen.append(set(batch.indices.tolist()))

    monkeypatch.setattr(Model, "validation_step", count)
    train(tmp_path, *DIM, "--data.validation", "100")
    # Whole batches of 32; Lightning's two sanity batches come first.
    assert len(seen) == 2 + 2 * 3
    seen.clear()
    fit.run("validate", ["--config", str(tmp_path / RUN / "config.yaml"), "--ckpt_path", "last"])
    assert len(seen) == 3
    assert len(set.union(*seen)) == 96


def test_a_checkpoint_continues_with_its_own_settings_alone(tmp_path):
    train(tmp_path, *DIM, epochs=1)
    last = str(tmp_path / RUN / "checkpoints" / "last.ckpt")
    with pytest.raises(UserError, match=r"trained with learning_rate=0\.0001, the command says 0\.5"):
        train(tmp_path, *DIM, "--model.learning_rate", "0.5", "--ckpt_path", last)
    with pytest.raises(UserError, match="is of a DeepInfoMax, the command asks for a Supervised"):
        train(tmp_path, "--model", "Supervised", "--ckpt_path", last)
    # Nor with an option that the checkpoint does not know yet, unless it is left at its default.
    older = torch.load(last, weights_only=True)
    del older["hyper_parameters"]["views"]
    torch.save(older, last)
    with pytest.raises(UserError, match="trained with views=False, the command says True"):
        train(tmp_path, *DIM, "--model.views", "true", "--ckpt_path", last)
    train(tmp_path, *DIM, "--ckpt_path", last)
    # Another run's folder is not overwritten by resuming from a checkpoint that is elsewhere.
    train(tmp_path / "other", *DIM, epochs=1)
    with pytest.raises(UserError, match="already holds a run"):
        train(tmp_path / "other", *DIM, "--ckpt_path", last)


@pytest.mark.parametrize("stop", [4, 8])
def test_resuming_at_the_end_of_an_epoch_repeats_and_skips_nothing(tmp_path, monkeypatch, stop):
    train(tmp_path / "whole", *DIM, epochs=3)
    step = Model.training_step

    def stop_after(self, batch, batch_idx):
        if self.global_step == stop - 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(self, batch, batch_idx)

    monkeypatch.setattr(Model, "training_step", stop_after)
    with pytest.raises(SystemExit):
        train(tmp_path / "parts", *DIM, epochs=3)
    monkeypatch.setattr(Model, "training_step", step)
    train(tmp_path / "parts", *DIM, "--ckpt_path", "last", epochs=3)
    whole, parts = checkpoint(tmp_path / "whole"), checkpoint(tmp_path / "parts")
    assert whole["global_step"] == parts["global_step"] == 12
    assert equal(whole["state_dict"], parts["state_dict"])


def test_a_run_goes_on_with_the_data_it_began_with(tmp_path):
    train(tmp_path, *MODELS["supervised"], epochs=1)
    last = tmp_path / RUN / "checkpoints" / "last.ckpt"
    with pytest.raises(UserError, match=r"was trained with data.validation=0, the command says 16: make them equal"):
        train(tmp_path, *MODELS["supervised"], "--data.validation", "16", "--ckpt_path", "last")
    with pytest.raises(UserError, match=r"was trained with data.source=digits, the command says cifar10"):
        train(tmp_path, *MODELS["supervised"], "--data.source", "cifar10", "--ckpt_path", str(last))


def test_other_images_under_the_same_name_are_refused(tmp_path):
    train(tmp_path, *MODELS["supervised"], epochs=1)
    last = tmp_path / RUN / "checkpoints" / "last.ckpt"
    content = torch.load(last, weights_only=True)
    assert len(content["data_fingerprint"]) == 64
    torch.save({**content, "data_fingerprint": "0" * 64}, last)
    with pytest.raises(UserError, match="trained on other images than these"):
        train(tmp_path, *MODELS["supervised"], "--ckpt_path", "last")
    # Losses of other images are another matter.
    fit.run("test", ["--config", str(tmp_path / RUN / "config.yaml"), "--ckpt_path", "last"])


def test_targets_of_another_training_split_do_for_losses_and_not_for_going_on(tmp_path):
    train(tmp_path, *MODELS["nat"], epochs=1)
    config = ["--config", str(tmp_path / RUN / "config.yaml"), "--ckpt_path", "last"]
    fit.run("validate", [*config, "--data.validation", "64"])
    last = tmp_path / RUN / "checkpoints" / "last.ckpt"
    content = torch.load(last, weights_only=True)
    del content["datamodule_hyper_parameters"], content["data_fingerprint"]
    torch.save(content, last)
    with pytest.raises(UserError, match="has targets for 1437 training images, here are 1373"):
        train(tmp_path, *MODELS["nat"], "--data.validation", "64", "--ckpt_path", "last")


def test_a_cosine_that_is_made_longer_says_where_it_goes_on(tmp_path, capsys):
    cosine = [*MODELS["supervised"], "--model.schedule", "cosine"]
    train(tmp_path, *cosine, epochs=1)
    assert "cosine" not in capsys.readouterr().err
    train(tmp_path, *cosine, "--ckpt_path", "last", epochs=2)
    told = "planned for 4 steps and is now for 8: the learning rate goes on at 0.5 of the highest"
    assert told in capsys.readouterr().err


def test_a_cosine_ends_with_the_run_s_last_step(tmp_path):
    train(tmp_path, *MODELS["supervised"], "--model.schedule", "cosine", epochs=1)
    (optimiser,) = checkpoint(tmp_path)["optimizer_states"]
    assert [group["lr"] for group in optimiser["param_groups"]] == pytest.approx([0, 0], abs=1e-9)


def test_a_run_by_the_clock_is_told_that_it_has_no_cosine(tmp_path, capsys):
    clock = ["--trainer.max_epochs", "-1", "--trainer.max_time", "00:00:00:01"]
    train(tmp_path, *MODELS["supervised"], "--model.schedule", "cosine", *clock)
    assert "has no cosine: the learning rate stays where it is" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "package"),
    [("--trainer.logger=WandbLogger", "wandb"), ("--trainer.precision=transformer-engine", "transformer_engine")],
)
def test_a_package_that_is_not_there_is_named(option, package, tmp_path):
    if find_spec(package):
        pytest.skip(f"{package} is there")
    with pytest.raises(UserError, match=f"Requirement '{package}"):
        train(tmp_path, *MODELS["supervised"], option, epochs=1)


@pytest.mark.parametrize("model", ["vae", "supervised"])
def test_a_model_may_be_of_another_precision_altogether(model, tmp_path):
    train(tmp_path, *MODELS[model], "--trainer.precision", "bf16-true", "--pictures.every_n_epochs", "1", epochs=1)
    assert checkpoint(tmp_path)["state_dict"]["encoder.y.weight"].dtype == torch.bfloat16


def test_a_released_encoder_has_no_losses(tmp_path):
    with pytest.raises(UserError, match=r"without the critics or decoders.*dim evaluate"):
        fit.run("test", [*QUICK, *DIM, "--ckpt_path", "dim_local_infonce_cifar10", "--runs", str(tmp_path)])


def test_a_run_without_a_step_is_not_called_one(tmp_path):
    with pytest.raises(UserError, match="no step was taken"):
        train(tmp_path, *MODELS["supervised"], epochs=0)


def test_image_size_must_fit_the_encoder(tmp_path):
    with pytest.raises(UserError, match="takes images of 32 pixels, the data has 64"):
        train(tmp_path, *DIM, "--data.image_size", "64")
    assert not (tmp_path / RUN / "checkpoints").exists()


def test_two_processes_complete_a_fit_and_an_evaluation_reads_it(tmp_path):
    ddp = [
        "--trainer.devices",
        "2",
        "--trainer.strategy",
        "ddp",
        "--trainer.accelerator",
        "cpu",
        "--data.batch_size",
        "16",
    ]
    limits = ["--trainer.max_epochs", "1", "--trainer.limit_train_batches", "3", "--trainer.log_every_n_steps", "1"]
    alike = [*DIM, "--model.gamma", "1", *limits, "--runs"]
    command = [sys.executable, "-m", "dim", "fit", *QUICK, *ddp, *alike, str(tmp_path)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("batches of 32 images, 16 in each of 2 processes") == 1
    assert checkpoint(tmp_path)["global_step"] == 3
    # What is logged is of the whole batch: 2 x 16 as 1 x 32.
    fit.run("fit", [*QUICK, *alike, str(tmp_path / "alone")])
    for name in ("loss", "local", "local_nats", "prior", "discriminator_accuracy"):
        spread, alone = (scalars(runs / RUN / "logs", f"train/{name}") for runs in (tmp_path, tmp_path / "alone"))
        assert len(alone) == 3
        assert spread == pytest.approx(alone, rel=1e-3), name
    evaluated = [sys.executable, "-m", "dim", "evaluate", str(tmp_path / RUN), "--only", "mlp", "--layers", "y"]
    done = subprocess.run(evaluated, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "MLP probe" in done.stdout


def test_processes_that_were_begun_end_with_the_first(monkeypatch):
    def fails(self, subcommand):
        raise OSError(subcommand)

    monkeypatch.setattr(LightningCLI, "_run_subcommand", fails)
    command, killed = object.__new__(fit.Cli), []
    for launcher, expected in ((SimpleNamespace(kill=killed.append), [signal.SIGKILL]), (None, [signal.SIGKILL])):
        command.trainer = SimpleNamespace(strategy=SimpleNamespace(launcher=launcher))
        with pytest.raises(OSError, match="fit"):
            command._run_subcommand("fit")
        assert killed == expected


def test_a_job_with_fewer_tasks_than_devices_is_refused(tmp_path):
    job = {"SLURM_NTASKS": "1", "SLURM_JOB_NAME": "a", "SLURM_JOB_ID": "1", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}
    command = [*QUICK, "--model", "Supervised", "--trainer.devices", "2", "--trainer.strategy", "ddp"]
    done = subprocess.run(
        [sys.executable, "-m", "dim", "fit", *command, "--runs", str(tmp_path)],
        env={**os.environ, **job, "SLURM_NODEID": "0", "SLURM_NODELIST": "localhost", "MASTER_ADDR": "127.0.0.1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "2 processes were asked for, but the cluster's job has 1" in done.stderr
    assert not (tmp_path / RUN / "checkpoints").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--data.batch_size", "1"], "batch norm needs more than one image"),
        (["--data.batch_size", "2", "--model.negatives", "2"], "2 negatives for each positive need more images than 2"),
        (
            [
                "--data.batch_size",
                "2",
                "--model.alpha",
                "1",
                "--model.beta",
                "0",
                "--model.global_objective",
                "interpolated",
            ],
            "2 negatives for each positive need more images than 2",
        ),
        (["--model.negatives", "64"], "64 negatives for each positive need more images than 64"),
        (["--probe.layers", "[conv9]"], "no layer 'conv9'"),
    ],
)
def test_contradictions_are_refused_before_data_are_looked_for(options, message, tmp_path):
    absent = ["--data", "ImageData", "--data.source", "cifar10", "--data.root", str(tmp_path / "nowhere")]
    with pytest.raises(UserError, match=message):
        fit.run("fit", [*DIM, *absent, *CPU, *options, "--runs", str(tmp_path)])


def test_a_look_whether_it_runs_leaves_no_run(tmp_path, capsys):
    train(tmp_path, *MODELS["supervised"], "--trainer.fast_dev_run", "true")
    assert "it runs; nothing was kept" in capsys.readouterr().out
    train(tmp_path, *MODELS["supervised"], epochs=1)
    assert checkpoint(tmp_path)["global_step"] == 4


def test_the_same_batches_are_learnt_by_heart(tmp_path, monkeypatch):
    seen, step = [], Model.training_step
    monkeypatch.setattr(
        Model, "training_step", lambda self, batch, i: seen.append(batch.indices.tolist()) or step(self, batch, i)
    )
    limits = ["--trainer.max_epochs", "2", "--trainer.overfit_batches", "2"]
    fit.run("fit", [*QUICK, *limits, *MODELS["supervised"], "--runs", str(tmp_path)])
    assert seen[:2] == seen[2:]
    assert len(seen) == 4


def test_a_run_goes_on_with_the_optimiser_of_today(tmp_path):
    clipped = [*MODELS["supervised"], "--trainer.gradient_clip_val", "1"]
    train(tmp_path, *clipped, epochs=1)
    assert not checkpoint(tmp_path)["optimizer_states"][0]["param_groups"][0]["fused"]
    train(tmp_path, *MODELS["supervised"], "--ckpt_path", "last")
    assert checkpoint(tmp_path)["optimizer_states"][0]["param_groups"][0]["fused"]


def test_a_run_starts_from_another_s_encoder_and_resumes_without_it(tmp_path):
    train(tmp_path / "donor", *DIM, epochs=1)
    assert checkpoints.read_checkpoint(tmp_path / "donor" / RUN)["epoch"] == 0
    donor = dim.load_encoder(tmp_path / "donor" / RUN).state_dict()
    begin = [*DIM, "--model.init_from", str(tmp_path / "donor" / RUN), "--model.whitening", "true"]
    train(tmp_path / "runs", *begin, "--model.learning_rate", "1e-9", epochs=1)
    started = dim.load_encoder(tmp_path / "runs" / RUN).state_dict()
    for name in (name for name in donor if name.endswith("0.weight")):
        torch.testing.assert_close(started[name], donor[name], rtol=0, atol=1e-6)
    file = sha256(tmp_path / "donor" / RUN / "checkpoints/last.ckpt")
    shutil.rmtree(tmp_path / "donor")
    train(tmp_path / "runs", *begin, "--model.learning_rate", "1e-9", "--ckpt_path", "last", epochs=2)
    resumed = checkpoints.read_checkpoint(tmp_path / "runs" / RUN)
    assert (resumed["epoch"], resumed["started_from"]) == (1, file)
    exported = export(str(tmp_path / "runs" / RUN), output=tmp_path / "exported.safetensors")
    assert release.read_record(exported)["metadata"]["started_from"] == file
    with pytest.raises(SystemExit):
        cli.main(["fit", *QUICK, *begin, "--runs", str(tmp_path / "other")])
