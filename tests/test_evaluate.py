"""`dim evaluate` on a checkpoint of real digits."""

import csv
import dataclasses
import json
import math
import re

import pytest
import torch
from PIL import Image

from dim import checkpoints, evaluate, export, fit, load_encoder, release
from dim.data import sources
from dim.data.sources import load_dataset, split_validation
from dim.errors import UserError
from dim.evaluation.battery import EVALUATIONS
from dim.evaluation.features import encode
from dim.evaluation.knn import knn
from dim.files import sha256
from dim.networks.encoders import build_encoder
from dim.reporting import cards
from dim.reproduction.tables import published_config


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    runs = tmp_path_factory.mktemp("runs")
    small = [
        "--data",
        "ImageData",
        "--data.source",
        "digits",
        "--data.batch_size",
        "32",
        "--trainer.accelerator",
        "cpu",
    ]
    limits = ["--trainer.max_epochs", "1", "--trainer.limit_train_batches", "2", "--trainer.devices", "1"]
    fit.run("fit", ["--model", "Supervised", *small, *limits, "--runs", str(runs), "--name", "supervised"])
    return runs / "digits" / "supervised"


def evaluated(run, *arguments):
    evaluate.run([str(run), *arguments])
    return json.loads((run / "evaluation.json").read_text())


def test_results_say_what_they_belong_to(run):
    content = evaluated(run, "--only", "knn", "--layers", "y")
    assert content["schema_version"] == 1
    assert 0 <= content["results"]["knn"]["y"]["accuracy"] <= 100
    identity = content["identity"]
    assert identity["checkpoint_sha256"] == sha256(run / "checkpoints" / "last.ckpt")
    assert identity["data"]["source"] == "digits"
    assert len(identity["data"]["fingerprint"]) == 64
    assert identity["protocol"]["name"] == "quick"
    assert identity["seeds"] == [0]
    assert content["name"] == "supervised"
    assert "class_path: dim.models.Supervised" in content["training_config"]
    assert content["provenance"]["knn"]["versions"]["torch"]
    assert content["wall_time"]["knn"] >= 0


def test_the_supervised_row_reports_its_classifier_and_only_on_its_own_data(run):
    content = evaluated(run, "--only", "rank", "--layers", "y")
    assert set(content["results"]["classifier"]["y"]) == {"accuracy", "accuracy_best"}
    rows = list(csv.DictReader((run / "evaluation.csv").open()))
    assert {row["evaluation"] for row in rows} >= {"classifier", "rank"}


def test_other_protocols_have_files_of_their_own(run):
    before = evaluated(run, "--only", "rank", "--layers", "y")
    evaluate.run([str(run), "--only", "rank", "--layers", "y", "--protocol", "standard"])
    assert json.loads((run / "evaluation.json").read_text()) == before
    assert (run / "evaluation-standard.json").exists()


def test_several_seeds_are_kept_apart_from_one(run, tmp_path):
    path = tmp_path / "seeds.json"
    arguments = ["--only", "mlp", "--layers", "y", "--seeds", "2", "--output", str(path)]
    evaluate.run([str(run), *arguments])
    metrics = json.loads(path.read_text())["results"]["mlp"]["y"]
    assert len(metrics["runs"]) == 2
    assert metrics["accuracy"] == pytest.approx(sum(r["accuracy"] for r in metrics["runs"]) / 2)
    assert metrics["accuracy_std"] >= 0
    assert json.loads(path.read_text())["identity"]["seeds"] == [0, 1]
    evaluate.run([str(run), "--only", "rank", "--layers", "y", "--seed", "3", "--seeds", "2", "--output", str(path)])
    assert json.loads(path.read_text())["identity"]["seeds"] == [3, 4]


def test_an_exported_file_is_evaluated_like_its_run(run, tmp_path, monkeypatch):
    monkeypatch.setattr(release, "FOLDER", tmp_path / "released")
    evaluated(run, "--only", "knn,rank", "--layers", "y")
    page = tmp_path / "README.md"
    page.write_text(f"before\n{cards.BEGIN}\n{cards.END}\nafter\n")
    file = export.export(str(run), tmp_path / "released" / "digits.safetensors")
    before = {path.name: path.read_bytes() for path in file.parent.iterdir()}
    assert "Of the checkpoint that this file was exported from" in before["digits.md"].decode()
    evaluate.run([str(file), "--only", "knn,mlp", "--layers", "y"])
    content = json.loads((file.parent / "digits" / "evaluation.json").read_text())
    assert content["identity"]["checkpoint_sha256"] == release.read_record(file)["sha256"] == sha256(file)
    assert (content["name"], content["model"], content["epoch"]) == ("supervised", "Supervised", 0)
    assert str(tmp_path) not in (file.parent / "digits" / "evaluation.json").read_text()
    expected = json.loads((run / "evaluation.json").read_text())
    assert content["identity"]["data"] == expected["identity"]["data"]
    assert content["results"]["knn"] == expected["results"]["knn"]
    assert (file.parent / "digits" / "evaluation.csv").exists()
    after = {path.name: path.read_bytes() for path in file.parent.iterdir() if path.is_file()}
    assert {name for name in after if after[name] != before[name]} == {"digits.md"}
    accuracy = f"{content['results']['mlp']['y']['accuracy_last_k']:.2f}"
    card = after["digits.md"].decode()
    assert f"| MLP probe, accuracy % (table 1) | {accuracy} |" in card
    assert "Of this file" in card
    assert card.count("quick protocol") == 1
    table = page.read_text()
    assert table.startswith("before\n")
    assert table.endswith("after\n")
    assert f"| quick |  |  | {accuracy} |" in table


@pytest.mark.parametrize(
    ("source", "side", "asked"),
    [("cifar10", 32, None), ("cifar100", 64, 64), ("folder", 32, 32), ("folder", 64, 64), ("digits", 64, 64)],
)
def test_images_are_resized_to_what_the_encoder_takes(run, monkeypatch, source, side, asked):
    def load(*arguments):
        raise UserError(f"asked for {arguments}")

    encoder = build_encoder("conv64" if side == 64 else "conv32", 64)
    monkeypatch.setattr(evaluate.checkpoints, "encoder_from", lambda *_: encoder)
    monkeypatch.setattr(sources, "load_dataset", load)
    with pytest.raises(UserError, match=re.escape(str((source, "there", False, asked)))):
        evaluate.run([str(run), "--data.source", source, "--data.root", "there"])


def test_an_exported_file_looks_for_data_where_the_trainer_does(run, tmp_path, monkeypatch):
    file = export.export(str(run), tmp_path / "digits.safetensors")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"no CIFAR-10 in data, .* set root to where it lies"):
        evaluate.run([str(file), "--data.source", "cifar10"])


def test_numbers_that_no_file_can_hold_are_a_failure_of_their_evaluation(run, tmp_path, monkeypatch):
    monkeypatch.setitem(
        EVALUATIONS,
        "knn",
        dataclasses.replace(
            EVALUATIONS["knn"], run=lambda task: {layer: {"of": [{"loss": math.nan}]} for layer in task.train}
        ),
    )
    output = tmp_path / "found.json"
    with pytest.raises(UserError, match=r"knn of conv: its loss is nan; knn of fc.*; knn of y"):
        evaluate.run([str(run), "--only", "knn,rank", "--output", str(output)])
    assert set(json.loads(output.read_text())["results"]) == {"rank", "classifier"}


@pytest.mark.parametrize("kind", [UserError, torch.OutOfMemoryError, torch.linalg.LinAlgError])
def test_what_fails_is_told_after_the_rest_is_done(kind, run, tmp_path, monkeypatch, capsys):
    def fails(task):
        raise kind("too wide")

    monkeypatch.setitem(EVALUATIONS, "knn", dataclasses.replace(EVALUATIONS["knn"], run=fails))
    path = tmp_path / "some.json"
    with pytest.raises(UserError, match=r"^knn of y: too wide$"):
        evaluate.run([str(run), "--only", "knn,rank", "--layers", "y", "--output", str(path)])
    assert "effective rank" in capsys.readouterr().out
    assert set(json.loads(path.read_text())["results"]) == {"rank", "classifier"}


def test_a_solver_that_stopped_early_is_told(run, tmp_path, monkeypatch, capsys):
    stopped = {"accuracy": 50.0, "converged": False, "relative_gap": 0.019}
    monkeypatch.setitem(EVALUATIONS, "svm", dataclasses.replace(EVALUATIONS["svm"], run=lambda task: stopped))
    evaluate.run([str(run), "--only", "svm", "--layers", "y", "--output", str(tmp_path / "some.json")])
    assert "dim: warning: svm, y: stopped up to 1.9 % above its minimum" in capsys.readouterr().err


def test_other_data_have_a_file_of_their_own_and_nothing_published_beside_them(run, tmp_path):
    images = load_dataset("digits")
    for split, part in (("train", images.train.spread(60)), ("test", images.test.spread(30))):
        for number, (image, label) in enumerate(zip(*part, strict=True)):
            path = tmp_path / "images" / split / str(int(label)) / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image.permute(1, 2, 0).numpy()).save(path)
    before = evaluated(run, "--only", "rank", "--layers", "y")
    other = ["--data.source", "folder", "--data.root", str(tmp_path / "images")]
    evaluate.run([str(run), "--only", "rank", "--layers", "y", *other])
    assert json.loads((run / "evaluation.json").read_text()) == before
    content = json.loads((run / "evaluation-folder.json").read_text())
    assert content["trained_on"] == "digits"
    assert "classifier" not in content["results"]
    assert published_config(content) == ""
    assert published_config(before) == "supervised"


def test_a_classifier_s_accuracy_is_not_given_for_other_images_of_the_same_name(run, tmp_path, monkeypatch, capsys):
    trained = checkpoints.read_trained
    monkeypatch.setattr(checkpoints, "read_trained", lambda file: {**trained(file), "data_fingerprint": "0" * 64})
    path = tmp_path / "other.json"
    options = ["--only", "rank", "--layers", "y", "--output", str(path)]
    evaluate.run([str(run), *options])
    assert set(json.loads(path.read_text())["results"]) == {"rank"}
    evaluate.run([str(run), *options[:4], "--data.validation", "97", "--output", str(tmp_path / "held.json")])
    assert "saw these images" not in capsys.readouterr().err


def test_held_out_images_take_the_test_images_place(run, tmp_path, capsys):
    before = evaluated(run, "--only", "knn", "--layers", "y")
    evaluate.run([str(run), "--only", "knn", "--layers", "y", "--data.validation", "97"])
    assert "the encoder's own training saw these images and their labels: train with" in capsys.readouterr().err
    assert json.loads((run / "evaluation.json").read_text()) == before
    content = json.loads((run / "evaluation-validation.json").read_text())
    assert content["identity"]["data"] == before["identity"]["data"] | {"validation": 97}
    assert set(content["results"]) == {"knn"}  # the supervised run's own accuracy is of test images
    assert published_config(content) == ""
    # By hand: the training's own split, probed on the rest.
    data = load_dataset("digits")
    train, held_out = split_validation(data.train, 97)
    encoder = load_encoder(run)
    features = [encode(encoder, part.images, ["y"])["y"] for part in (train, held_out)]
    expected = knn(features[0], train.labels, features[1], held_out.labels)
    assert content["results"]["knn"]["y"]["accuracy"] == expected["accuracy"]
    card = export.export(str(run), tmp_path / "digits.safetensors").with_suffix(".md").read_text()
    assert "## digits, quick protocol, held-out images" in card
    assert "on 97 held-out training images" in card
    assert "--data.validation 97" in card


def test_an_exported_file_knows_what_its_training_held_out(run, tmp_path, capsys):
    config = (run / "config.yaml").read_text().replace("validation: 0", "validation: 97")
    (tmp_path / "config.yaml").write_text(config)
    fit.run("fit", ["--config", str(tmp_path / "config.yaml"), "--runs", str(tmp_path), "--name", "held"])
    file = export.export(str(tmp_path / "digits" / "held"), tmp_path / "held.safetensors")
    for count, told in ((50, False), (97, False), (98, True)):
        capsys.readouterr()
        evaluate.run([str(file), "--only", "rank", "--layers", "y", "--data.validation", str(count)])
        assert ("saw these images" in capsys.readouterr().err) == told


def test_images_that_training_held_out_too_are_new_to_the_encoder(run, monkeypatch, capsys):
    content = checkpoints.read_trained(checkpoints.find_checkpoint(run))
    content["datamodule_hyper_parameters"]["validation"] = 97
    monkeypatch.setattr(evaluate.checkpoints, "read_trained", lambda file: content)
    evaluate.run([str(run), "--only", "rank", "--layers", "y", "--data.validation", "97"])
    assert "saw these images" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data.validation", "100000"], "validation is 100000: it must be from 0 to"),
        (["--device", "cuda:99"], "cannot be used here"),
        (["--device", "abacus"], "cannot be used here"),
        (["--seeds", "0"], "seeds is 0: it must be at least 1"),
        (["--output", "results.csv"], r"a name that ends in \.json"),
        (["--only", "svn"], "no evaluation 'svn'"),
        (["--data.source", "cifar10", "--data.root", "nowhere"], "nowhere"),
    ],
)
def test_mistakes_are_one_line(run, arguments, message):
    with pytest.raises(UserError, match=message) as error:
        evaluate.run([str(run), *arguments])
    assert "\n" not in str(error.value)
