"""Processes that do the work: signals are passed on to them, and they do not outlive the process that started them."""

import contextlib
import ctypes
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

POLL_SECONDS = 0.2


class Children:
    """The processes that are at work, so that a signal can be passed on to all of them."""

    def __init__(self) -> None:
        self.signal: int | None = None
        self._running: set[subprocess.Popen] = set()
        self._lock = threading.RLock()  # a signal's handler runs in a thread that may hold it

    def stop(self, number: int) -> None:
        """Passes a signal on; nothing new is started from now on."""
        self.signal = number
        with self._lock:
            for process in self._running:
                with contextlib.suppress(ProcessLookupError):
                    process.send_signal(number)

    def run(self, command: list[str], watch: Callable[[], None], **options: Any) -> int:
        """The exit status of a command, which is not started once `stop` was called (then minus the signal)."""
        with self._lock:
            if self.signal is not None:
                return -self.signal
            # In a session of its own: a terminal's Ctrl-C reaches it once, through `stop`.
            process = subprocess.Popen(command, start_new_session=True, preexec_fn=_die_with_parent, **options)
            self._running.add(process)
        try:
            while process.poll() is None:
                watch()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(POLL_SECONDS)
        finally:
            with self._lock:
                self._running.discard(process)
        return process.returncode


_LIBC = ctypes.CDLL(None)  # loaded here: between fork and exec as little as possible should happen
_PR_SET_PDEATHSIG = 1


def _die_with_parent() -> None:
    """Where Linux can: a child whose parent was killed is told to save and stop."""
    if sys.platform == "linux":
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
