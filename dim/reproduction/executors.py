"""Where runs are worked on: one after the other here, one on each GPU of this machine, or as jobs of a cluster."""

import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from dim.errors import UserError
from dim.reproduction.children import Children
from dim.reproduction.jobs import Outcome, Watch, work
from dim.reproduction.runs import Run

Done = Callable[[Run, Outcome], None]
"""Called when a run has ended, from one thread at a time."""


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
        """One slot for each device, which its processes see as their only one."""
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
                try:
                    outcome = work(run, retrain, environment, self.children, watch)
                except UserError as error:
                    outcome = Outcome("failed", str(error))
                except Exception as error:  # one run must not take the others with it
                    outcome = Outcome("failed", f"{type(error).__name__}: {error}")
                with one_at_a_time:
                    done(run, outcome)

        threads = [threading.Thread(target=slot, args=(slot_environment,)) for slot_environment in self.slots]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def stop(self, number: int) -> None:
        self.children.stop(number)
