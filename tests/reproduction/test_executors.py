import sys
from types import SimpleNamespace

import pytest

from dim.errors import UserError
from dim.reproduction.budgets import BUDGETS
from dim.reproduction.executors import Cluster, Machine, Slurm
from dim.reproduction.jobs import unwatched
from dim.reproduction.rows import Row
from dim.reproduction.runs import plan_run, state


def plan(places, seeds):
    return [
        plan_run(Row("VAE", "vae"), "cifar10", "smoke", seed, BUDGETS["smoke"].probes, places) for seed in range(seeds)
    ]


def test_each_gpu_is_a_process_s_only_one(places, processes):
    runs, outcomes = plan(places, 4), {}
    Machine.gpus(["3", "5"]).run(runs, False, unwatched, outcomes.__setitem__)
    assert [outcomes[run].status for run in runs] == ["done"] * 4
    devices = {}
    for command, environment in processes.calls:
        seed = command[command.index("--seed_everything" if command[0] == "fit" else "--seed") + 1]
        devices.setdefault(seed, set()).add(environment["CUDA_VISIBLE_DEVICES"])
    assert all(len(used) == 1 and used <= {"3", "5"} for used in devices.values())
    assert all(state(run).stage == "done" for run in runs)


def test_a_run_whose_record_is_damaged_is_left_alone(places, processes):
    runs, outcomes = plan(places, 2), {}
    runs[0].folder.mkdir(parents=True)
    (runs[0].folder / "reproduction.json").write_text("{")
    Machine().run(runs, False, unwatched, outcomes.__setitem__)
    assert outcomes[runs[0]].status == "stale"
    assert "is damaged" in outcomes[runs[0]].message
    assert outcomes[runs[1]].status == "done"


def test_after_a_signal_nothing_is_begun(places, processes):
    machine, outcomes = Machine(), {}
    machine.stop(15)
    machine.run(plan(places, 2), False, unwatched, outcomes.__setitem__)
    assert outcomes == {}
    assert processes.commands == []


def test_runs_become_jobs_of_a_cluster(places, processes, tmp_path):
    pytest.importorskip("submitit")
    runs, outcomes = plan(places, 2), {}
    cluster = Cluster(tmp_path / "jobs", Slurm(gpus=0, system="debug"))
    cluster.run(runs, False, unwatched, outcomes.__setitem__)
    assert [outcomes[run].status for run in runs] == ["done", "done"]
    assert len(processes.commands) == 4
    assert {environment["SLURM_JOB_NAME"] for _, environment in processes.calls} == {"interactive"}


def test_a_signal_between_submissions_leaves_no_job_behind(places, tmp_path, monkeypatch):
    pytest.importorskip("submitit")
    runs, outcomes, submitted, cancelled = plan(places, 4), {}, [], []
    cluster = Cluster(tmp_path / "jobs", Slurm(gpus=0, system="debug"))

    def submit(_, run, *arguments):
        submitted.append(run)
        if len(submitted) == 2:
            cluster.stop(2)  # before the job is known
        return SimpleNamespace(cancel=lambda: cancelled.append(run), done=lambda: False)

    monkeypatch.setattr(cluster.executor, "submit", submit)
    cluster.run(runs, False, unwatched, outcomes.__setitem__)
    assert submitted == runs[:2]
    assert set(cancelled) == set(submitted)
    assert {run: outcome.message for run, outcome in outcomes.items()} == dict.fromkeys(
        runs[:2], "its job was cancelled"
    )


def test_jobs_in_processes_of_their_own_tell_how_they_ended(places, tmp_path):
    pytest.importorskip("submitit")
    runs, outcomes = plan(places, 2), {}
    # Neither trains: a real job is no stand-in's.
    for run, name, text in zip(runs, ("reproduction.json", "config.yaml"), ("{", "another run"), strict=True):
        run.folder.mkdir(parents=True)
        (run.folder / name).write_text(text)
    Cluster(tmp_path / "jobs", Slurm(gpus=0, system="local")).run(runs, False, unwatched, outcomes.__setitem__)
    assert outcomes[runs[0]].status == "stale"
    assert "is damaged" in outcomes[runs[0]].message
    assert outcomes[runs[1]].status == "stale"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hours": 0.0}, "slurm.hours is 0.0: it must be a number above 0"),
        ({"gpus": -1}, "slurm.gpus is -1"),
        ({"memory": 0}, "slurm.memory is 0: it must be at least 1"),
    ],
)
def test_what_no_job_can_be_is_refused(options, message, tmp_path):
    pytest.importorskip("submitit")
    with pytest.raises(UserError, match=message):
        Cluster(tmp_path / "jobs", Slurm(system="local", **options))


def test_without_submitit_or_a_cluster_one_line_says_so(tmp_path, monkeypatch):
    pytest.importorskip("submitit")
    monkeypatch.setenv("PATH", str(tmp_path))  # this machine may be part of a cluster
    with pytest.raises(UserError, match="jobs cannot be submitted from here"):
        Cluster(tmp_path / "jobs", Slurm())
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(UserError, match="need submitit"):
        Cluster(tmp_path / "jobs", Slurm())
