"""A cluster's job that is stopped, requeued and started again, with a stand-in for `scontrol`."""

import os
import signal
import subprocess
import sys
import time

import pytest
import torch

from dim import slurm

RUN = "digits/run"
JOB = {"SLURM_JOB_ID": "7", "SLURM_JOB_NAME": "a", "SLURM_NTASKS": "1", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}
NODE = {"SLURM_NODEID": "0", "SLURM_NODELIST": "localhost", "MASTER_ADDR": "127.0.0.1", "OMP_NUM_THREADS": "1"}
TRAIN = (
    "fit --model Supervised --data ImageData --data.source digits --data.batch_size 16 --codes.images 0 "
    "--trainer.accelerator cpu --trainer.max_epochs 3 --trainer.limit_train_batches 40 --checkpoint.every_n_steps 1"
)


@pytest.fixture
def queue(tmp_path):
    """What `scontrol` was told, and the environment of a job that finds it."""
    told, program = tmp_path / "told", tmp_path / "bin" / "scontrol"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\necho "$@" >> {told}\n')
    program.chmod(0o755)
    return told, {**os.environ, **JOB, **NODE, "PATH": f"{program.parent}:{os.environ['PATH']}"}


def command(runs):
    return [sys.executable, "-m", "dim", *TRAIN.split(), "--runs", str(runs)]


def last(runs):
    return torch.load(runs / RUN / "checkpoints" / "last.ckpt", weights_only=True)


def test_a_job_out_of_time_requeues_itself_and_goes_on(tmp_path, queue):
    told, environment = queue
    process = subprocess.Popen(command(tmp_path), env=environment, stderr=subprocess.PIPE, text=True)
    while not (tmp_path / RUN / "checkpoints" / "last.ckpt").exists():
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGUSR1)
    _, messages = process.communicate()
    assert process.returncode == 128 + signal.SIGUSR1
    assert "the job goes on when its turn comes again" in messages
    assert told.read_text() == "requeue 7\n"
    reached = last(tmp_path)["global_step"]
    assert 0 < reached < 120
    # The same command; a job of another number is refused what it would be refused without a cluster.
    other = {**environment, "SLURM_JOB_ID": "8", "SLURM_RESTART_COUNT": "1"}
    refused = subprocess.run(command(tmp_path), env=other, capture_output=True, text=True)
    assert refused.returncode == 2
    assert "already holds a run" in refused.stderr
    subprocess.run(command(tmp_path), env={**environment, "SLURM_RESTART_COUNT": "1"}, check=True)
    subprocess.run(command(tmp_path / "whole"), env=environment, check=True)
    parts, whole = last(tmp_path), last(tmp_path / "whole")
    assert parts["global_step"] == whole["global_step"] == 120
    assert all(torch.equal(value, parts["state_dict"][name]) for name, value in whole["state_dict"].items())


def test_a_job_that_is_stopped_before_its_first_checkpoint_begins_again(tmp_path, queue):
    (tmp_path / RUN).mkdir(parents=True)
    (tmp_path / RUN / "config.yaml").write_text("")
    short = [*command(tmp_path), "--trainer.max_epochs", "1", "--trainer.limit_train_batches", "1"]
    assert subprocess.run(short, env=queue[1], capture_output=True).returncode == 2
    subprocess.run(short, env={**queue[1], "SLURM_RESTART_COUNT": "1"}, check=True)
    assert last(tmp_path)["run"]["job"] == "7"


def test_jobs_of_arrays_have_names_of_their_own(monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    assert slurm.job() == "12"
    assert not slurm.restarted()
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "10")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "2")
    assert slurm.job() == "10_2"


def test_what_keeps_a_job_out_of_the_queue_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert slurm.requeue() == "scontrol: No such file or directory"
    program = tmp_path / "scontrol"
    program.write_text("#!/bin/sh\necho no such job >&2; exit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    assert slurm.requeue() == "no such job"
