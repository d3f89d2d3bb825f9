"""Doing what a run lacks, in processes of their own that can be stopped, killed and taken up again."""

import os
import shlex
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal

from dim.errors import UserError
from dim.files import locked, sha256
from dim.provenance import machine, versions
from dim.reproduction.children import Children
from dim.reproduction.runs import CONFIG, OUTPUT, Run, read_record, state, write_record

LOCK_SECONDS = 60.0
"""How long to wait for a run that another process holds: one whose parent was killed saves and stops within seconds."""

Watch = Callable[[Run, str, str], None]
"""`watch(run, phase, line)`: what a run is doing, and the last line that it printed."""


def unwatched(run: Run, phase: str, line: str) -> None:
    """A watch that shows nothing."""


@dataclass(frozen=True)
class Outcome:
    """How a run ended: done, failed, stopped by a signal, or left alone because it is stale."""

    status: Literal["done", "failed", "stopped", "stale"]
    message: str = ""


def work(
    run: Run,
    retrain: bool = False,
    environment: Mapping[str, str] | None = None,
    children: Children | None = None,
    watch: Watch = unwatched,
) -> Outcome:
    """Trains and evaluates what `run` lacks.

    Args:
        retrain: move a stale run aside and train the row again.
        environment: variables for the processes, on top of this one's.
    """
    with locked(run.folder, LOCK_SECONDS) as lock:
        if lock is None:
            return Outcome("failed", "another process is at work on this run")
        worker = _Worker(run, lock, environment or {}, children or Children(), watch)
        found = state(run)
        if found.stage == "stale":
            if not retrain:
                return Outcome("stale", found.reason)
            _move_aside(run.folder)
            found = state(run)
        if found.stage in ("missing", "begun"):
            outcome = worker.train()
            if outcome.status != "done":
                return outcome
        return worker.evaluate() if state(run).stage != "done" else Outcome("done")


def attempt(run: Run, *arguments: Any) -> Outcome:
    """`work`, with an error as an outcome: one run must not take the others with it."""
    try:
        return work(run, *arguments)
    except UserError as error:
        return Outcome("failed", str(error))
    except Exception as error:  # the program's own: where it happened is for whoever mends it
        path = run.folder / OUTPUT
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.write(traceback.format_exc())
        return Outcome("failed", f"{type(error).__name__}: {error} (see {path})")


def _move_aside(folder: Path) -> None:
    number = 1
    while (kept := folder.with_name(f"{folder.name}.{number}")).exists():
        number += 1
    folder.rename(kept)


class _Worker:
    """Runs the commands of one run, with its lock held."""

    def __init__(self, run: Run, lock: int, environment: Mapping[str, str], children: Children, watch: Watch) -> None:
        self.target, self.lock, self.children, self.watch = run, lock, children, watch
        self.environment = {**os.environ, **environment}

    def train(self) -> Outcome:
        run = self.target
        record = read_record(run.folder) or {"sessions": []}
        _close_killed_session(record, run)
        # Before its first checkpoint a run has nothing to lose.
        how = ["--ckpt_path", "last"] if run.last.is_file() else ["--overwrite", "true"]
        session: dict[str, Any] = {
            "began": _now(),
            "seconds": None,
            "versions": versions(),
            "machine": machine(self.environment),
        }
        record |= {
            "schema_version": 1,
            "recipe": run.recipe,
            "command": shlex.join(["dim", *run.fit_arguments()]),
            "trained": False,
            "error": None,
        }
        record["sessions"].append(session)
        write_record(run.folder, record)
        began = time.monotonic()
        outcome = self._command("training", [*run.fit_arguments(), *how])
        session["seconds"] = round(time.monotonic() - began, 1)
        if outcome.status == "done":
            record |= {
                "trained": True,
                "checkpoint_sha256": sha256(run.last),
                "config_sha256": sha256(run.folder / CONFIG),
            }
        self._finish(record, outcome)
        return outcome

    def evaluate(self) -> Outcome:
        outcome = self._command("evaluating", self.target.evaluate_arguments())
        record = read_record(self.target.folder)
        assert record is not None
        if outcome.status == "done" and state(self.target).stage != "done":
            outcome = Outcome("failed", "the evaluation ended without all of its results")
        self._finish(record, outcome)
        return outcome

    def _finish(self, record: dict[str, Any], outcome: Outcome) -> None:
        record["error"] = outcome.message if outcome.status == "failed" else None
        write_record(self.target.folder, record)

    def _command(self, phase: str, arguments: list[str]) -> Outcome:
        path = self.target.folder / OUTPUT
        with path.open("ab") as output:
            output.write(f"$ {shlex.join(['dim', *arguments])}\n".encode())
            output.flush()
            status = self.children.run(
                [sys.executable, "-m", "dim", *arguments],
                lambda: self.watch(self.target, phase, last_line(path)),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self.environment,
                pass_fds=(self.lock,),
            )
        if status == 0:
            return Outcome("done")
        if self.children.signal is not None:
            return Outcome("stopped")
        return Outcome("failed", f"{phase}: {_reason(status, last_line(path))} (see {path})")


def _reason(status: int, line: str) -> str:
    if status < 0:
        return f"killed by {signal.Signals(-status).name}"
    return line.removeprefix("dim: error: ") or f"exit status {status}"


def _close_killed_session(record: dict[str, Any], run: Run) -> None:
    """A session that was killed lasted, as far as its work was kept, until its last checkpoint."""
    for session in record["sessions"]:
        if session["seconds"] is None:
            began = datetime.fromisoformat(session["began"]).timestamp()
            kept = run.last.stat().st_mtime if run.last.is_file() else began
            session["seconds"] = round(max(0.0, kept - began), 1)


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def last_line(path: Path) -> str:
    """The last line in a growing file that is not empty."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 4096))
        lines = file.read().decode("utf-8", "replace").splitlines()
    return next((line.strip() for line in reversed(lines) if line.strip()), "")
