import os
import subprocess
import sys

import pytest

from dim.files import locked
from dim.reproduction import jobs
from dim.reproduction.budgets import BUDGETS
from dim.reproduction.jobs import work
from dim.reproduction.rows import Row
from dim.reproduction.runs import plan_run, read_record, state, write_record


@pytest.fixture
def run(places):
    return plan_run(Row("VAE", "vae"), "cifar10", "smoke", 0, BUDGETS["smoke"].probes, places)


def test_a_run_is_held_until_the_last_process_at_work_on_it_is_gone(run, monkeypatch):
    monkeypatch.setattr(jobs, "LOCK_SECONDS", 0.0)
    with locked(run.folder, 0.0) as lock:
        child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=(lock,))
    with locked(run.folder, 0.0) as second:
        assert second is None
    assert work(run).message == "another process is at work on this run"
    child.communicate(b"\n")
    with locked(run.folder, 0.0) as third:
        assert third is not None


def test_a_failure_is_kept_with_its_reason_until_it_is_mended(run, processes):
    processes.fails.add("/vae/")
    assert work(run).status == "failed"
    assert "broken on purpose" in state(run).error
    processes.fails.clear()
    assert work(run).status == "done"
    assert state(run).error is None
    assert len(read_record(run.folder)["sessions"]) == 2


def test_a_killed_session_counts_until_its_last_checkpoint(run, processes):
    work(run)
    record = read_record(run.folder)
    record |= {"trained": False}
    record["sessions"] = [{"began": "2026-01-01T00:00:00+00:00", "seconds": None}]
    write_record(run.folder, record)
    os.utime(run.last, (1767225600 + 90,) * 2)
    processes.calls.clear()
    work(run)
    assert read_record(run.folder)["sessions"][0]["seconds"] == 90.0
    # The checkpoint is what training goes on from.
    assert processes.commands[0][-2:] == ["--ckpt_path", "last"]


def test_a_folder_with_another_run_is_left_alone(run, processes):
    run.last.parent.mkdir(parents=True)
    run.last.write_bytes(b"precious")
    assert work(run).status == "stale"
    assert work(run, retrain=True).status == "done"
    assert (run.folder.with_name("seed0.1") / "checkpoints/last.ckpt").read_bytes() == b"precious"


def test_a_config_that_was_rewritten_elsewhere_makes_the_run_stale(run, processes):
    work(run)
    assert state(run).stage == "done"
    (run.folder / "config.yaml").write_text("trained again by hand")
    assert state(run).stage == "stale"


def test_other_seeds_layers_and_checkpoints_do_not_count_as_evaluated(run, processes):
    work(run)
    path = run.folder / "evaluation.json"
    whole = path.read_text()
    for part in ('"seeds": [0]', '"conv"', '"source": "cifar10"'):
        assert part in whole
        path.write_text(whole.replace(part, part.replace("0", "1").replace("conv", "other")))
        assert state(run).stage == "trained", part
    path.write_text(whole)
    assert state(run).stage == "done"


def test_an_error_of_the_program_s_own_is_kept_whole(run, monkeypatch):
    def broken(*_):
        raise KeyError("x")

    monkeypatch.setattr(jobs, "work", broken)
    outcome = jobs.attempt(run)
    assert outcome.status == "failed"
    assert outcome.message.startswith("KeyError: 'x' (see ")
    assert "in broken" in (run.folder / "output.log").read_text()
