import dataclasses
import json

import pytest

from dim.errors import UserError
from dim.evaluation.settings import PROTOCOLS
from dim.reproduction.budgets import BUDGETS
from dim.reproduction.rows import Row, rows_of
from dim.reproduction.runs import belongs, plan_run, read_evaluation, read_record, state, write_record


def planned(places, row, extra=(), seed=0):
    return plan_run(row, "cifar10", "smoke", seed, BUDGETS["smoke"].probes, places, extra)


def test_a_run_is_what_its_commands_say(places):
    run = planned(places, Row("VAE", "vae"), ("--trainer.max_epochs", "7"), seed=3)
    fit, evaluate = run.fit_arguments(), run.evaluate_arguments()
    assert run.folder == places.runs / "smoke/cifar10/vae/seed3"
    assert fit[0] == "fit"
    assert fit[1:3] == ["--config", str(places.configs / "cifar10/vae.yaml")]
    assert fit[fit.index("--name") + 1] == "vae/seed3"
    assert fit[fit.index("--trainer.max_epochs") + 1] == "7"
    assert run.epochs == 7
    assert run.recipe["seed_everything"] == 3
    assert evaluate[:2] == ["evaluate", str(run.folder)]
    assert evaluate[evaluate.index("--only") + 1] == "mlp"


def test_options_of_a_row_are_part_of_its_name_and_recipe(places):
    row = Row("one negative", "dim_local_jsd", options=("--model.negatives", "1"), suffix="negatives1")
    run = planned(places, row)
    assert run.folder.parent.name == "dim_local_jsd-negatives1"
    assert run.recipe["model"]["init_args"]["negatives"] == 1


def test_points_of_a_grid_differ_in_their_options_alone(places):
    for row in rows_of("weights", "cifar10", places.configs):
        run = plan_run(row, "cifar10", "cpu", 0, BUDGETS["cpu"].probes, places)
        assert [path.stem for path in run.files] == ["dim_local_global", "cpu", "cpu_concat"]
        assert run.recipe["model"]["init_args"]["negatives"] == 1


def test_a_row_without_a_config_is_told_where_configs_are_sought(places):
    with pytest.raises(UserError, match=r"nothing\.yaml does not exist"):
        planned(places, Row("nothing", "nothing"))


def test_the_stages_of_a_run_that_was_not_made_here(places):
    run = planned(places, Row("VAE", "vae"))
    assert state(run).stage == "missing"
    run.last.parent.mkdir(parents=True)
    assert state(run).stage == "stale"


def test_what_failed_before_its_first_checkpoint_may_be_tried_with_other_settings(places):
    run = planned(places, Row("VAE", "vae"))
    run.folder.mkdir(parents=True)
    record = {"schema_version": 1, "recipe": {"trainer": {"lunch": 3}}, "trained": False, "sessions": [], "error": "x"}
    write_record(run.folder, record)
    assert state(run).stage == "missing"
    run.last.parent.mkdir()
    run.last.touch()
    assert state(run).stage == "stale"


@pytest.mark.parametrize("text", ["{", "[]", "{}"])
def test_damaged_files_are_not_taken_for_results(places, text):
    run = planned(places, Row("VAE", "vae"))
    run.folder.mkdir(parents=True)
    for name in ("reproduction.json", "evaluation.json"):
        (run.folder / name).write_text(text)
    with pytest.raises(UserError, match="is damaged"):
        read_record(run.folder)
    assert read_evaluation(run.folder / "evaluation.json") is None
    assert read_evaluation(run.folder / "not there") is None


@pytest.mark.parametrize("changed", ["checkpoint_sha256", "protocol", "seeds", "source", "validation"])
def test_results_of_something_else_are_not_a_run_s(places, changed):
    run, record = planned(places, Row("VAE", "vae"), seed=2), {"checkpoint_sha256": "ab"}
    protocol = json.loads(json.dumps({"name": "quick", **dataclasses.asdict(PROTOCOLS["quick"])}))
    own = {"checkpoint_sha256": "ab", "protocol": protocol, "seeds": [2], "data": {"source": "cifar10"}}
    assert belongs(run, own, record)
    other = {
        "checkpoint_sha256": {"checkpoint_sha256": "cd"},
        "protocol": {"protocol": {**protocol, "name": "standard"}},
        "seeds": {"seeds": [3]},
        "source": {"data": {"source": "cifar100"}},
        "validation": {"data": {"source": "cifar10", "validation": 5000}},
    }[changed]
    assert not belongs(run, {**own, **other}, record)
