from dim.reproduction.budgets import BUDGETS
from dim.reproduction.executors import Machine
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
    for command, environment in zip(processes.commands, processes.environments, strict=True):
        seed = command[command.index("--seed_everything" if command[0] == "fit" else "--seed") + 1]
        devices.setdefault(seed, set()).add(environment["CUDA_VISIBLE_DEVICES"])
    assert all(len(used) == 1 and used <= {"3", "5"} for used in devices.values())
    assert all(state(run).stage == "done" for run in runs)


def test_a_run_whose_record_is_damaged_fails_alone(places, processes):
    runs, outcomes = plan(places, 2), {}
    runs[0].folder.mkdir(parents=True)
    (runs[0].folder / "reproduction.json").write_text("{")
    Machine().run(runs, False, unwatched, outcomes.__setitem__)
    assert outcomes[runs[0]].status == "failed"
    assert "is damaged" in outcomes[runs[0]].message
    assert outcomes[runs[1]].status == "done"


def test_after_a_signal_nothing_is_begun(places, processes):
    machine, outcomes = Machine(), {}
    machine.stop(15)
    machine.run(plan(places, 2), False, unwatched, outcomes.__setitem__)
    assert outcomes == {}
    assert processes.commands == []
