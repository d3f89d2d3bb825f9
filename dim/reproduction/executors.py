"""Where runs are worked on: one after the other here, one on each GPU of this machine, or as jobs of a cluster."""

import math
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from dim.errors import UserError, at_least, positive
from dim.reproduction.children import Children
from dim.reproduction.jobs import Outcome, Watch, attempt
from dim.reproduction.runs import Run

Done = Callable[[Run, Outcome], None]
"""Called when a run has ended, from one thread at a time."""


POLL_SECONDS = 2.0


class Executor(Protocol):
    """Works on runs and reports each one's end."""

    def run(self, runs: Sequence[Run], retrain: bool, watch: Watch, done: Done) -> None: ...

    def stop(self, number: int) -> None:
        """Passes a signal on; `run` then returns soon."""


class Machine:
    """This machine, with one run at a time in each slot.

    Args:
        slots: the environment variables of each slot.
    """

    def __init__(self, slots: Sequence[Mapping[str, str]] = ({},)) -> None:
        self.slots = slots
        self.children = Children()

    @classmethod
    def gpus(cls, devices: Sequence[str]) -> "Machine":
        """One slot for each device, which its processes see as their only one.

        Raises:
            UserError: a device without a name, or one given twice.
        """
        if not all(devices) or len(set(devices)) < len(devices):
            raise UserError(f"devices are {','.join(devices)}: give each GPU once, separated by commas")
        return cls([{"CUDA_VISIBLE_DEVICES": device} for device in devices])

    def run(self, runs: Sequence[Run], retrain: bool, watch: Watch, done: Done) -> None:
        waiting: queue.SimpleQueue[Run] = queue.SimpleQueue()
        for run in runs:
            waiting.put(run)
        one_at_a_time = threading.Lock()

        def slot(environment: Mapping[str, str]) -> None:
            while self.children.signal is None:
                try:
                    run = waiting.get_nowait()
                except queue.Empty:
                    return
                outcome = attempt(run, retrain, environment, self.children, watch)
                with one_at_a_time:
                    done(run, outcome)

        threads = [threading.Thread(target=slot, args=(slot_environment,)) for slot_environment in self.slots]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def stop(self, number: int) -> None:
        self.children.stop(number)


@dataclass(frozen=True)
class Slurm:
    """What a job asks of the cluster.

    Attributes:
        partition: the partition to submit to; by default the cluster's.
        hours: wall time of a job; a row that takes longer goes on when the command is run again.
        gpus: GPUs of a job.
        cpus: CPU cores of a job.
        memory: GB of a job.
        system: slurm; local and debug run the jobs on this machine, to try things out.
    """

    partition: str | None = None
    hours: float = 24.0
    gpus: int = 1
    cpus: int = 4
    memory: int = 16
    system: Literal["slurm", "local", "debug"] = "slurm"


ALONE = {"SLURM_JOB_NAME": "interactive"}
"""Keeps Lightning, in a job of one task, from taking that task for all processes there are: it starts one a device."""


class Cluster:
    """One job a run, through submitit; jobs share the file system, so that results lie where a machine leaves them.

    Args:
        folder: for submitit's files and the jobs' output.

    Raises:
        UserError: submitit is not installed, or there is no such cluster here.
    """

    def __init__(self, folder: Path, options: Slurm) -> None:
        try:
            import submitit
        except ImportError as error:
            raise UserError('clusters need submitit: pip install "deep-infomax[slurm]"') from error
        try:
            self.executor = submitit.AutoExecutor(folder, cluster=options.system)
        except RuntimeError as error:
            raise UserError(f"jobs cannot be submitted from here: {error}") from error
        positive(**{"slurm.hours": options.hours})
        at_least(0, **{"slurm.gpus": options.gpus})
        at_least(1, **{"slurm.cpus": options.cpus, "slurm.memory": options.memory})
        wanted: dict[str, Any] = {
            "timeout_min": math.ceil(options.hours * 60),
            "gpus_per_node": options.gpus,
            "cpus_per_task": options.cpus,
            "mem_gb": options.memory,
            "slurm_partition": options.partition,
        }
        self.executor.update_parameters(name="dim", **{name: value for name, value in wanted.items() if value})
        self.jobs: dict[Run, Any] = {}
        self.signal: int | None = None

    def run(self, runs: Sequence[Run], retrain: bool, watch: Watch, done: Done) -> None:
        for run in runs:
            if self.signal is not None:
                break
            self.jobs[run] = self.executor.submit(attempt, run, retrain, ALONE)
        if self.signal is not None:  # which may have come within `submit`, whose job was not known yet
            self.stop(self.signal)
        waiting = dict(self.jobs)
        while waiting and self.signal is None:
            for run, job in list(waiting.items()):
                if job.done():
                    done(run, self._outcome(waiting.pop(run)))
                else:
                    watch(run, f"job {job.job_id}", job.state)
            time.sleep(POLL_SECONDS if waiting else 0.0)
        for run in waiting:
            done(run, Outcome("stopped", "its job was cancelled"))

    @staticmethod
    def _outcome(job: Any) -> Outcome:
        try:
            return job.result()
        except Exception:  # submitit's own, where a job left no result: it was killed, or could not start
            return Outcome("failed", f"job {job.job_id} ended without a result (see {job.paths.stderr})")

    def stop(self, number: int) -> None:
        """Cancels all jobs: the cluster terminates their processes, which save and stop."""
        self.signal = number
        for job in self.jobs.values():
            job.cancel()
