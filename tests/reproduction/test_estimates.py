import pytest

from dim.reproduction.budgets import BUDGETS
from dim.reproduction.estimates import BIGAN, STEP_SECONDS, estimate
from dim.reproduction.jobs import work
from dim.reproduction.rows import Row
from dim.reproduction.runs import plan_run, read_record, write_record


def plan(places, data="cifar10", seed=0, config="vae", extra=()):
    return plan_run(Row("VAE", config), data, "smoke", seed, BUDGETS["smoke"].probes, places, extra)


def test_without_a_finished_run_a_rule_is_used(places):
    first = estimate(plan(places))
    assert first.source == "rule"
    longer = estimate(plan(places, extra=("--trainer.max_epochs", "3")))
    assert longer.seconds - first.seconds == pytest.approx(2 * 781 * STEP_SECONDS)
    limited = estimate(plan(places, extra=("--trainer.limit_train_batches", "10")))
    assert first.seconds - limited.seconds == pytest.approx(771 * STEP_SECONDS)
    bigan = estimate(plan(places, config="bigan"))
    assert bigan.seconds - first.seconds == pytest.approx(781 * (BIGAN - 1) * STEP_SECONDS)


def test_the_rule_is_not_for_the_paper_s_settings(places):
    run = plan_run(Row("VAE", "vae"), "cifar10", "paper", 0, BUDGETS["paper"].probes, places)
    assert estimate(run).seconds is None


def test_finished_runs_of_the_same_training_are_what_others_are_judged_by(places, processes):
    work(plan(places))
    record = read_record(plan(places).folder)
    record["sessions"][0]["seconds"] = 100.0
    write_record(plan(places).folder, record)
    assert estimate(plan(places)).seconds == 0
    for other in (plan(places, seed=1), plan(places, "cifar100")):
        found = estimate(other)
        assert found.source == "measured"
        assert found.seconds == pytest.approx(100 + 15 + 1 + 10)
    # Another training has another cost.
    assert estimate(plan(places, seed=1, extra=("--trainer.max_epochs", "3"))).source == "rule"
    assert estimate(plan(places, config="ae")).source == "rule"
