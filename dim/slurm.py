"""Jobs of a SLURM cluster that are stopped and start again."""

import os
import signal
import subprocess

SIGNAL = getattr(signal, "SIGUSR1", None)
"""What `sbatch --signal=USR1@SECONDS` sends before a job's time is over; Windows has none."""


def job() -> str | None:
    """The number of the job that this process belongs to, as `scontrol` wants it."""
    if "SLURM_ARRAY_JOB_ID" in os.environ:
        return f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    return os.environ.get("SLURM_JOB_ID")


def restarted() -> bool:
    """Whether the job has run before: requeued by itself, by another's preemption or by an administrator."""
    return job() is not None and int(os.environ.get("SLURM_RESTART_COUNT", "0")) > 0


def requeue() -> str:
    """Puts this job back into the queue, which ends it here; what went wrong, or nothing."""
    try:
        done = subprocess.run(["scontrol", "requeue", str(job())], capture_output=True, text=True)
    except OSError as error:
        return f"scontrol: {error.strerror}"
    return "" if done.returncode == 0 else " ".join(done.stderr.split())
