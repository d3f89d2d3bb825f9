"""`dim reproduce`: what is left is done, what fails or has changed is told."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from dim import cli, reproduce
from dim.errors import UserError
from dim.evaluation.battery import EVALUATIONS
from dim.reporting.text import readme_section
from dim.reporting.views import in_order, view
from dim.reproduction.published import published
from dim.reproduction.results import read_all
from dim.reproduction.runs import read_record
from dim.reproduction.tables import columns

ROOT = Path(__file__).parent.parent


@pytest.fixture
def dim(places, processes, tmp_path, capsys):
    """Runs `dim reproduce ARGUMENTS` with stand-ins for the processes: exit status and what was printed."""

    def run(*arguments):
        where = ["--configs", str(places.configs), "--runs", str(places.runs), "--output", str(tmp_path / "results")]
        extra = list(arguments[arguments.index("--") :]) if "--" in arguments else []
        status = 0
        try:
            reproduce.run([*arguments[: len(arguments) - len(extra)], *where, *extra])
        except SystemExit as stopped:
            status = stopped.code
        return status, capsys.readouterr()

    run.places, run.processes, run.results = places, processes, tmp_path / "results"
    return run


def content(dim, name):
    return json.loads((dim.results / f"{name}.json").read_text())


def test_every_cell_of_table_1_stands_beside_the_paper_s(dim):
    status, printed = dim("table1", "--data", "cifar10,cifar100", "--budget", "smoke")
    assert status == 0
    for data in ("cifar10", "cifar100"):
        lines = list(csv.DictReader((dim.results / f"table1-{data}-smoke.csv").open()))
        assert len({line["row"] for line in lines}) == 11
        assert len(lines) == 31
        cells = {(line["row"], line["column"]): float(line["published"]) for line in lines}
        assert cells == {
            (row["row"], column): row[column]
            for row in published()["table1"][data]
            for column in ("accuracy", "conv", "fc", "y")
            if column in row
        }
        for line in lines:
            ours = 70.0 if line["column"] == "accuracy" else 50.0
            assert float(line["ours"]) == ours
            assert float(line["difference"]) == pytest.approx(ours - float(line["published"]))
            assert (line["budget"], line["epochs"], line["seeds"], line["state"]) == ("smoke", "1", "1", "")
    assert "75.57" in printed.out
    assert "-25.57" in printed.out


def test_run_again_it_does_what_is_left(dim):
    first = dim("table1", "--data", "cifar10", "--budget", "smoke", "--rows", "VAE,DIM(L)*")
    assert first[0] == 0
    assert len(dim.processes.commands) == 2 * 4
    (dim.places.runs / "smoke/cifar10/vae/seed0/evaluation.json").unlink()
    dim.processes.calls.clear()
    dim("table1", "--data", "cifar10", "--budget", "smoke", "--rows", "VAE,DIM(L)*")
    assert [command[0] for command in dim.processes.commands] == ["evaluate"]
    dim.processes.calls.clear()
    dim("table1", "--data", "cifar10", "--budget", "smoke", "--rows", "VAE,DIM(L)*", "--seeds", "2")
    fits = [command for command in dim.processes.commands if command[0] == "fit"]
    assert len(fits) == 4
    assert all(command[command.index("--seed_everything") + 1] == "1" for command in fits)


def test_a_failed_row_is_told_and_stops_no_other(dim):
    dim.processes.fails.add("/vae/")
    status, printed = dim("table1", "--data", "cifar10", "--budget", "smoke")
    assert status == 1
    assert "failed: VAE, cifar10, seed 0: training: broken on purpose" in printed.err
    rows = {row["row"]: row for row in content(dim, "table1-cifar10-smoke")["rows"]}
    assert [label for label, row in rows.items() if not row["ours"]] == ["VAE"]
    assert "broken on purpose" in rows["VAE"]["seeds"][0]["note"]
    dim.processes.fails.clear()
    dim.processes.calls.clear()
    assert dim("table1", "--data", "cifar10", "--budget", "smoke")[0] == 0
    assert len(dim.processes.commands) == 2
    assert content(dim, "table1-cifar10-smoke")["rows"][1]["ours"]["y"]["mean"] == 50.0


def test_what_is_finished_of_a_row_is_shown_though_the_rest_failed(dim):
    arguments = ("table1", "--data", "cifar10", "--budget", "cpu", "--rows", "VAE")
    dim(*arguments)
    path = dim.places.runs / "cpu/cifar10/vae/seed0/evaluation.json"
    whole = json.loads(path.read_text())
    del whole["results"]["svm"]["conv"]
    path.write_text(json.dumps(whole))
    dim.processes.fails.add("/vae/")
    assert dim(*arguments)[0] == 1
    row = content(dim, "table1-cifar10-cpu")["rows"][1]
    assert row["ours"]["y"]["mean"] == 50.0
    assert row["seeds"][0]["state"] == "trained"
    assert "broken on purpose" in row["seeds"][0]["note"]


def test_results_of_an_evaluation_are_not_taken_for_a_table(dim):
    dim("table1", "--data", "cifar10", "--budget", "smoke", "--rows", "VAE")
    (dim.results / "mine.json").write_text(json.dumps({"schema_version": 1, "identity": {}, "results": {}}))
    assert [found["experiment"] for found in read_all(dim.results)] == ["table1"]


def test_a_changed_config_makes_a_row_stale_until_it_is_trained_anew(dim):
    arguments = ("table1", "--data", "cifar10", "--budget", "smoke", "--rows", "VAE,AE")
    dim(*arguments)
    path = dim.places.configs / "cifar10/vae.yaml"
    path.write_text(path.read_text().replace("kl_weight: 1.0", "kl_weight: 2.0"))
    dim.processes.calls.clear()
    status, printed = dim(*arguments)
    assert status == 1
    assert not dim.processes.commands
    assert "its settings changed since: model.init_args.kl_weight" in printed.err
    rows = {row["row"]: row for row in content(dim, "table1-cifar10-smoke")["rows"]}
    assert rows["VAE"]["ours"] == {}
    assert rows["VAE"]["seeds"][0]["state"] == "stale"
    assert rows["AE"]["ours"]["y"]["mean"] == 50.0
    assert dim(*arguments, "--retrain", "true")[0] == 0
    assert [command[0] for command in dim.processes.commands] == ["fit", "evaluate"]
    assert (dim.places.runs / "smoke/cifar10/vae/seed0.1/config.yaml").exists()


@pytest.mark.parametrize("name", ["reproduction.json", "config.yaml"])
def test_a_damaged_run_takes_no_other_with_it(dim, name):
    arguments = ("table1", "--data", "cifar10", "--budget", "smoke", "--rows", "VAE,AE")
    dim(*arguments)
    path = dim.places.runs / "smoke/cifar10/vae/seed0" / name
    path.write_text("{") if name.endswith("json") else path.unlink()
    status, printed = dim(*arguments)
    assert status == 1
    assert name in printed.err
    rows = {row["row"]: row for row in content(dim, "table1-cifar10-smoke")["rows"]}
    assert rows["VAE"]["ours"] == {}
    assert name in rows["VAE"]["seeds"][0]["note"]
    assert rows["AE"]["ours"]["y"]["mean"] == 50.0
    status, printed = dim(*arguments, "--seeds", "2", "--rows", "VAE", "--dry-run")
    assert status == 0
    assert printed.out.count("VAE") == 2
    assert dim(*arguments, "--retrain", "true")[0] == 0
    assert content(dim, "table1-cifar10-smoke")["rows"][1]["ours"]["y"]["mean"] == 50.0


def test_numbers_are_means_over_seeds(dim):
    dim.processes.values = {"seed0": 50.0, "seed1": 53.0, "seed2": 56.0}
    dim("table1", "--data", "cifar10", "--budget", "smoke", "--rows", "VAE", "--seeds", "3")
    row = content(dim, "table1-cifar10-smoke")["rows"][1]
    assert row["ours"]["conv"] == {"mean": 53.0, "std": 3.0, "over": "3 seeds"}
    assert [seed["cells"]["mlp/accuracy_last_k/conv"]["value"] for seed in row["seeds"]] == [50.0, 53.0, 56.0]
    with pytest.raises(UserError, match="holds results of 3 seeds: add --seeds 3"):
        dim("table1", "--data", "cifar10", "--budget", "smoke", "--rows", "AE")


def test_rows_that_were_measured_on_other_images_are_told(dim):
    """Two folders of images may have one name."""

    def notes():
        rows = {row["name"]: row["seeds"] for row in content(dim, "table1-cifar10-smoke")["rows"]}
        return {name: [seed["note"] for seed in rows[name]] for name in ("vae", "ae")}

    arguments = ("table1", "--data", "cifar10", "--budget", "smoke", "--rows", "VAE,AE", "--seeds", "2")
    dim(*arguments)
    assert notes() == {"vae": ["", ""], "ae": ["", ""]}
    (path,) = (dim.places.runs / "smoke/cifar10/ae/seed1").glob("evaluation.json")
    evaluated = json.loads(path.read_text())
    evaluated["identity"]["data"]["fingerprint"] = "1" * 64
    path.write_text(json.dumps(evaluated))
    dim(*arguments)
    assert notes() == {"vae": ["", ""], "ae": ["", "seed 0 of VAE had other images"]}
    lines = csv.DictReader((dim.results / "table1-cifar10-smoke.csv").open())
    assert {line["state"] for line in lines if line["row"] == "AE"} == {"seed 0 of VAE had other images"}


def test_table_4_runs_what_its_columns_are_of_under_the_standard_protocol(dim):
    dim("table4", "--rows", "VAE,DIM(G)")
    needed = {evaluation for evaluation, _, _ in columns("table4", "vae").values()}
    only = ",".join(name for name in EVALUATIONS if name in needed)
    evaluations = [command for command in dim.processes.commands if command[0] == "evaluate"]
    assert all(command[2:6] == ["--protocol", "standard", "--only", only] for command in evaluations)
    rows = {row["row"]: row for row in content(dim, "table4-cifar10-cpu")["rows"]}
    ours = {column: cell["mean"] for column, cell in rows["DIM(G)"]["ours"].items()}
    assert ours == {
        **dict.fromkeys(("svm_conv", "svm_fc", "svm_y"), 50.0),
        **dict.fromkeys(("svm_raw_conv", "svm_raw_fc", "svm_raw_y"), 49.0),
        "ms_ssim": 0.4,
        "ms_ssim_scales": 0.6,
        "ssim": 0.5,
        "mine": 2.0,
        "mine_held_out": 1.0,
        "mine_ceiling": 9.0,
        "ndm": 3.0,
        "ndm_sigmoid": 0.3,
        "ndm_ceiling": 9.5,
    }
    assert rows["VAE"]["ours"]["svm_y"]["over"] == "within one seed"


def test_the_grids_of_figures_are_runs_of_their_own(dim):
    status, _ = dim("negatives", "--budget", "smoke", "--rows", "JSD with 4 *,infoNCE with all *")
    assert status == 0
    fits = [command for command in dim.processes.commands if command[0] == "fit"]
    assert "--model.negatives 4 --seed_everything 0 --name dim_local_jsd-negatives4/seed0" in " ".join(fits[0])
    assert "--model.negatives" not in fits[1]
    rows = [row for row in content(dim, "negatives-cifar10-smoke")["rows"] if row["ours"]]
    assert [row["place"] for row in rows] == [
        {"objective": "JSD", "negatives": 4},
        {"objective": "infoNCE", "negatives": 63 * 64},
    ]
    dim("weights", "--budget", "smoke", "--rows", "alpha 1 *gamma 0.1")
    rows = [row for row in content(dim, "weights-cifar10-smoke")["rows"] if row["ours"]]
    assert len(rows) == 3
    assert all(row["place"]["alpha"] == 1 and row["place"]["gamma"] == 0.1 for row in rows)
    made = rows[0]["seeds"][0]["provenance"]["config"]["model"]["init_args"]
    assert (made["alpha"], made["beta"], made["gamma"]) == (1, 0, 0.1)


@pytest.mark.parametrize(("encoder", "positions"), [("conv32", 8 * 8), ("folded32", 7 * 7)])
def test_all_negatives_are_those_of_the_batches_and_maps_that_were_trained_with(dim, encoder, positions):
    rows = ("--rows", "infoNCE with all*,infoNCE with 4 *")
    options = ("--data.batch_size", "32", "--model.encoder", encoder)
    dim("negatives", "--budget", "smoke", *rows, "--", *options)
    (four, every) = (row["place"] for row in content(dim, "negatives-cifar10-smoke")["rows"] if row["ours"])
    assert (four["negatives"], every["negatives"]) == (4, 31 * positions)


def test_a_plan_does_nothing_and_tells_the_time(dim):
    status, printed = dim("table5", "--data", "cifar10", "--dry-run")
    assert status == 0
    assert not dim.processes.commands
    assert "DIM coordinates and occlusion" in printed.out
    assert "rule: 15 s to start" in printed.out
    assert not dim.results.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rows", "DIM(X)*"], "no row matches 'DIM"),
        (["--seeds", "0"], "seeds is 0: it must be at least 1"),
        (["--data", "mnist"], "no row of table1 has a config for mnist"),
        (["--", "--trainer.max_epochs"], "come in pairs"),
        (["--", "max_epochs", "1"], "no option"),
        (["--", "--model.init_from", "[1"], r"--model.init_from \[1: the value is not YAML"),
        (["--", "--data.source", "digits"], "behind --: data.source is not an option here"),
        (["--", "--data.init_args.root=x", "--overwrite", "true"], "behind --: data.root, overwrite is not"),
        (["--dry-run", "--", "--data.batch_size", "0"], "batch_size is 0: it must be at least 1"),
        (
            ["--", "--trainer.max_epoch", "1"],
            "Fully supervised, cifar10: dim fit has no option .* did you mean 'trainer.max_epochs'",
        ),
        (
            ["--dry-run", "--", "--model.units", "64"],
            "Fully supervised, cifar10: .* no option 'units'.*; --rows chooses rows",
        ),
        (["--rows", "DIM(L)*", "--", "--model.units", "many"], r"DIM\(L\) \(DV\), cifar10: model.units is many"),
        (["--rows", "DIM(L)*", "--", "--model.units", "0"], r"DIM\(L\) \(DV\), cifar10: units is 0"),
        (["--rows", "DIM(L)*", "--", "--model.negatives", "64"], r"DIM\(L\) \(DV\), cifar10: .*negatives"),
        (["--root", "nowhere"], "root nowhere does not exist"),
        (["--where", "gpus", "--devices", "0,0"], "give each GPU once"),
        (["--where", "gpus"], "PyTorch finds none here"),
        (["--where", "gpus", "--devices", "0,7"], "no GPU 7 here, PyTorch finds 2"),
        (["--where", "slurm", "--slurm.gpus", "2"], "a job has 2 GPUs .* trains on 1 .* make them equal"),
    ],
)
def test_mistakes_are_one_line(dim, arguments, message, monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2 if "0,7" in arguments else 0)
    with pytest.raises(UserError, match=message):
        dim("table1", *arguments)


def test_options_are_those_of_each_data_set_s_rows(dim):
    path = dim.places.configs / "cifar10/vae.yaml"
    kept = path.read_text()
    path.write_text(kept + "compil: true\n")
    with pytest.raises(UserError, match=r"VAE, cifar10: .*compil"):
        dim("table1", "--rows", "VAE", "--dry-run")
    assert dim("table1", "--data", "cifar100", "--rows", "VAE", "--dry-run")[0] == 0
    path.write_text(kept.replace("source: cifar10", "source: mine"))
    with pytest.raises(UserError, match=r"VAE, cifar10: there is no data set 'mine'"):
        dim("table1", "--rows", "VAE", "--dry-run")


def test_results_with_other_options_are_not_written_over(dim):
    row = ["table1", "--data", "digits", "--budget", "smoke", "--rows", "DIM*"]
    assert dim(*row)[0] == 0
    before = content(dim, "table1-digits-smoke")
    with pytest.raises(UserError, match="holds results without options: give another --output"):
        dim(*row, "--", "--trainer.max_epochs", "3")
    assert content(dim, "table1-digits-smoke") == before
    (dim.results / "table1-digits-smoke.json").unlink()
    dim.places.runs.rename(dim.places.runs.with_name("short"))
    status, printed = dim(*row, "--", "--trainer.max_epochs", "3")
    assert status == 0
    assert "changed by --trainer.max_epochs 3" in " ".join(printed.out.split())
    assert content(dim, "table1-digits-smoke")["budget"]["options"] == ["--trainer.max_epochs", "3"]


def test_rows_of_one_s_own_are_trained_and_tabulated(dim, tmp_path):
    rows = [{"label": "as it is", "config": "dim_local_infonce"}]
    rows.append({"label": "no prior", "config": "dim_local_infonce", "options": {"model.gamma": 0}})
    path = tmp_path / "prior.yaml"
    path.write_text(json.dumps({"rows": rows}))
    assert dim(str(path), "--budget", "smoke", "--seeds", "2")[0] == 0
    found = content(dim, "prior-cifar10-smoke")
    assert [row["name"] for row in found["rows"]] == ["dim_local_infonce", "dim_local_infonce-no-prior"]
    assert [len(row["seeds"]) for row in found["rows"]] == [2, 2]
    assert all(set(row["ours"]) == {"conv", "fc", "y"} for row in found["rows"])
    assert found["rows"][1]["seeds"][0]["provenance"]["config"]["model"]["init_args"]["gamma"] == 0
    table = view(found)
    assert table.title.startswith("prior: MLP probes")
    assert "dim reproduce prior.yaml --data cifar10 --budget smoke --seeds 2" in readme_section([found])
    assert in_order([found, {**found, "experiment": "table5"}])[-1] is found
    path.write_text(json.dumps({"rows": rows[:1]}))
    with pytest.raises(UserError, match="holds results of dim_local_infonce-no-prior"):
        dim(str(path), "--budget", "smoke")
    path.write_text(json.dumps({"rows": [rows[0], {**rows[1], "options": {"data.validation": 500}}]}))
    with pytest.raises(UserError, match="rows judged on 0 and on 500 held-out images are no table"):
        dim(str(path), "--budget", "smoke")


def test_rows_trained_without_some_images_are_judged_on_these(dim):
    words = ["table1", "--data", "cifar10", "--budget", "smoke", "--rows", "Fully*,VAE", "--"]
    status, printed = dim(*words, "--data.validation", "5000")
    assert status == 0
    assert "table1 on 5000 held-out training images of cifar10" in " ".join(printed.out.split())
    trained, evaluated = (next(c for c in dim.processes.commands if c[0] == name) for name in ("fit", "evaluate"))
    assert "--data.validation 5000" in " ".join(trained)
    assert evaluated[-2:] == ["--data.validation", "5000"]
    found = content(dim, "table1-cifar10-smoke")
    assert found["validation"] == 5000
    assert not any(row["published"] for row in found["rows"])
    vae = next(row for row in found["rows"] if row["name"] == "vae")
    assert set(vae["ours"]) == {"conv", "fc", "y"}
    assert all(set(row["ours"]) == {"conv", "fc", "y"} for row in found["rows"] if row["name"] == "supervised")
    assert view(found).finished == 2
    assert "5000 held-out training images" in view(found).title
    # Of what is trained without them nothing is of test images, and the other way round.
    with pytest.raises(UserError, match=r"holds results with --data\.validation 5000"):
        dim(*words[:-1])


def test_the_command_is_known():
    assert "reproduce" in cli.COMMANDS


def trains(folder, attempt):
    """Whether the attempt of that number has written a checkpoint."""
    record, last = read_record(folder) or {"sessions": []}, folder / "checkpoints" / "last.ckpt"
    written = last.exists() and last.stat().st_mtime_ns > (folder / "reproduction.json").stat().st_mtime_ns
    return len(record["sessions"]) == attempt and written


@pytest.mark.slow
def test_killed_or_stopped_and_run_again_it_ends_like_a_run_of_one_piece(tmp_path):
    options = ["--trainer.max_epochs", "4", "--trainer.limit_train_batches", "8", "--checkpoint.every_n_steps", "1"]
    extra = ["--", *options, "--trainer.accelerator", "cpu", "--data.batch_size", "64"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}

    def command(place):
        where = ["--configs", str(ROOT / "configs"), "--runs", str(tmp_path / place), "--output", str(tmp_path / place)]
        rows = ["--budget", "smoke", "--rows", "DIM*"]
        return [sys.executable, "-m", "dim", "reproduce", "table1", "--data", "digits", *rows, *where, *extra]

    last = tmp_path / "parts/smoke/digits/dim_local_infonce/seed0/checkpoints/last.ckpt"
    attempts = ((signal.SIGKILL, -signal.SIGKILL), (signal.SIGTERM, 128 + signal.SIGTERM))
    for attempt, (number, status) in enumerate(attempts, 1):
        process = subprocess.Popen(command("parts"), env=environment, stderr=subprocess.DEVNULL)
        while not trains(last.parent.parent, attempt):
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(number)
        assert process.wait() == status
    for place in ("parts", "whole"):
        subprocess.run(command(place), env=environment, check=True)
    whole, parts = (
        torch.load(tmp_path / place / last.relative_to(tmp_path / "parts"), weights_only=True)
        for place in ("whole", "parts")
    )
    assert parts["global_step"] == whole["global_step"] == 32
    assert all(torch.equal(value, parts["state_dict"][name]) for name, value in whole["state_dict"].items())
    tables = [json.loads((tmp_path / place / "table1-digits-smoke.json").read_text()) for place in ("parts", "whole")]
    assert tables[0]["rows"][1]["ours"] == tables[1]["rows"][1]["ours"]
    assert len(tables[0]["rows"][1]["seeds"][0]["provenance"]["training"]) == 3
