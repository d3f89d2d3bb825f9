import json
from pathlib import Path

import pytest
import torch

from dim.data.sources import load_dataset
from dim.errors import UserError
from dim.evaluation import protocol
from dim.evaluation.battery import EVALUATIONS, Evaluation
from dim.evaluation.protocol import ResultFile, combine, evaluate
from dim.evaluation.settings import PROTOCOLS
from dim.networks.encoders import build_encoder


@pytest.fixture(scope="module")
def setting():
    dataset = load_dataset("digits")
    torch.manual_seed(0)
    return build_encoder("conv32", 8), dataset


def run(setting, path, only, layers=("y",), identity=None, seeds=(0,)):
    encoder, dataset = setting
    file = ResultFile(Path(path), identity or {"checkpoint": "a"}, {})
    assert not evaluate(encoder, dataset, file, PROTOCOLS["quick"], only, layers, seeds, torch.device("cpu"))
    return file.results


def test_only_what_is_missing_is_run(setting, tmp_path, monkeypatch):
    path = tmp_path / "evaluation.json"
    first = run(setting, path, ["knn"])
    assert set(first["knn"]) == {"y"}
    encoded = []
    original = protocol.cached

    def cached(*arguments):
        encoded.append(arguments[2])
        return original(*arguments)

    monkeypatch.setattr(protocol, "cached", cached)
    run(setting, path, ["knn"])
    assert encoded == []
    second = run(setting, path, ["knn", "rank"], layers=("fc", "y"))
    assert encoded == [["fc", "y"]] * 2
    assert set(second["knn"]) == {"fc", "y"}
    assert set(second["rank"]) == {"y"}
    assert second["knn"]["y"] == first["knn"]["y"]
    assert json.loads(path.read_text())["results"] == second


def test_what_does_not_depend_on_the_seed_is_run_once(setting, tmp_path):
    found = run(setting, tmp_path / "evaluation.json", ["mlp", "linear", "knn", "rank"], seeds=(0, 1))
    first, second = found["mlp"]["y"]["runs"]
    assert first["train_losses"] != second["train_losses"]
    for name in ("linear", "knn", "rank"):
        assert "runs" not in found[name]["y"]
        assert not [metric for metric in found[name]["y"] if metric.endswith("_std")]


def test_each_seed_is_used_and_the_first_alone_draws_pictures(setting, tmp_path, monkeypatch):
    tasks = []

    def recorded(task):
        tasks.append(task)
        return {"accuracy": float(task.seed)}

    monkeypatch.setitem(EVALUATIONS, "mlp", Evaluation(recorded))
    found = run(setting, tmp_path / "evaluation.json", ["mlp"], seeds=(3, 5))
    assert [task.seed for task in tasks] == [3, 5]
    assert [task.pictures for task in tasks] == [f"{tmp_path}/", None]
    assert [one["accuracy"] for one in found["mlp"]["y"]["runs"]] == [3, 5]


def test_finished_evaluations_survive_one_that_fails(setting, tmp_path, monkeypatch):
    path = tmp_path / "evaluation.json"

    def broken(task):
        raise RuntimeError("interrupted")

    monkeypatch.setitem(EVALUATIONS, "mlp", Evaluation(broken))
    with pytest.raises(RuntimeError):
        run(setting, path, ["knn", "mlp"])
    assert set(json.loads(path.read_text())["results"]) == {"knn"}


def test_another_checkpoint_or_protocol_never_mixes(setting, tmp_path):
    path = tmp_path / "evaluation.json"
    run(setting, path, ["knn"], identity={"checkpoint": "a"})
    before = json.loads(path.read_text())["results"]
    run(setting, path, ["rank"], identity={"checkpoint": "b"})
    assert set(json.loads(path.read_text())["results"]) == {"rank"}
    assert json.loads((tmp_path / "evaluation.1.json").read_text())["results"] == before
    with pytest.raises(UserError):
        run(setting, path, ["svn"], identity={"checkpoint": "a"})
    assert set(json.loads(path.read_text())["results"]) == {"rank"}
    assert run(setting, path, ["knn"], identity={"checkpoint": "a"}) == before


def test_two_evaluations_at_once_keep_each_other_s_results(tmp_path):
    path = tmp_path / "evaluation.json"
    one, other = (ResultFile(path, {"checkpoint": "a"}, {}, {"device": name}) for name in ("cpu", "cuda"))
    one.add("knn", {"y": {"accuracy": 1.0}}, 2.0)
    other.add("knn", {"fc": {"accuracy": 2.0}}, 3.0)
    other.add("mlp", {"y": {"accuracy": 3.0}}, 4.0)
    one.add("rank", {"y": {"rank": 4.0}}, 5.0)
    content = json.loads(path.read_text())
    assert content["results"] == {
        "knn": {"y": {"accuracy": 1.0}, "fc": {"accuracy": 2.0}},
        "mlp": {"y": {"accuracy": 3.0}},
        "rank": {"y": {"rank": 4.0}},
    }
    devices = {name: made["device"] for name, made in content["provenance"].items()}
    assert devices == {"knn (y)": "cpu", "knn": "cuda", "mlp": "cuda", "rank": "cpu"}
    ResultFile(path, {"checkpoint": "a"}, {}, {"device": "mps"}).add("knn", {"conv": {"accuracy": 3.0}}, 1.0)
    devices = {name: made["device"] for name, made in json.loads(path.read_text())["provenance"].items()}
    assert devices == {"knn (y)": "cpu", "knn (fc)": "cuda", "knn": "mps", "mlp": "cuda", "rank": "cpu"}
    assert content["wall_time"] == {"knn": 5.0, "mlp": 4.0, "rank": 5.0}


def test_what_another_process_has_done_meanwhile_is_not_done_again(setting, tmp_path, monkeypatch):
    path = tmp_path / "evaluation.json"
    original = EVALUATIONS["knn"].run

    def meanwhile(task):
        ResultFile(path, {"checkpoint": "a"}, {}).add("mlp", {"y": {"accuracy": 1.0}}, 1.0)
        return original(task)

    monkeypatch.setitem(EVALUATIONS, "knn", Evaluation(meanwhile))
    monkeypatch.setitem(EVALUATIONS, "mlp", Evaluation(lambda task: pytest.fail("done twice")))
    assert run(setting, path, ["knn", "mlp"])["mlp"] == {"y": {"accuracy": 1.0}}


@pytest.mark.parametrize("text", ["{", "[]", '{"results": {}}'])
def test_a_file_that_is_no_evaluation_is_left_alone(tmp_path, text):
    path = tmp_path / "evaluation.json"
    path.write_text(text)
    with pytest.raises(UserError, match="is no evaluation file"):
        ResultFile(path, {}, {})
    assert path.read_text() == text


def test_unknown_evaluations_and_layers_are_refused(setting, tmp_path):
    with pytest.raises(UserError, match="no evaluation 'svn': choose from mlp, svm"):
        run(setting, tmp_path / "a.json", ["svn"])
    with pytest.raises(UserError, match="no layer 'z'"):
        run(setting, tmp_path / "a.json", ["knn"], layers=("z",))


def test_several_seeds_give_mean_deviation_and_the_single_runs():
    runs = [{"accuracy": 50.0, "loss": "hinge"}, {"accuracy": 54.0, "loss": "hinge"}]
    combined = combine(runs)
    assert combined["accuracy"] == 52.0
    assert combined["accuracy_std"] == pytest.approx(8**0.5)
    assert combined["runs"] == runs
    assert combine(runs[:1]) == runs[0]


def test_what_seeds_have_chosen_is_not_averaged():
    same = {"accuracy": 1.0, "run_fraction": 0.9, "settings": {"k1": 0.01}, "loss": "hinge"}
    runs = [{**same, "cost": cost} for cost in (1e-4, 1e-2)]
    combined = combine(runs)
    assert combined["cost"] == [1e-4, 1e-2]
    assert combined["run_fraction"] == 0.9
    assert combined["settings"] == {"k1": 0.01}
    assert combined["loss"] == "hinge"
    assert not [name for name in combined if name.endswith("_std") and name != "accuracy_std"]


def test_a_deviation_over_runs_is_not_taken_for_one_over_seeds():
    machines = [
        {"accuracy": 60.0, "accuracy_std": 0.8, "relative_gap": 0.001, "converged": True},
        {"accuracy": 60.2, "accuracy_std": 0.6, "relative_gap": 0.02, "converged": False},
    ]
    combined = combine(machines)
    assert combined["accuracy"] == pytest.approx(60.1)
    assert combined["accuracy_std"] == pytest.approx(0.7)
    assert combined["accuracy_seeds_std"] == pytest.approx(0.02**0.5)
    assert combined["relative_gap"] == 0.02
    assert combined["converged"] is False


def test_the_probes_find_the_digits(setting, tmp_path):
    results = run(setting, tmp_path / "evaluation.json", ["mlp", "svm", "linear", "knn"], layers=("conv",))
    for name in ("mlp", "svm", "linear", "knn"):
        assert results[name]["conv"]["accuracy"] > 85, name
