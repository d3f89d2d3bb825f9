"""What numbers were made with."""

import contextlib
import importlib.metadata
import os
import platform
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from dim.version import __version__


def versions() -> dict[str, str]:
    """Versions of this package (with its commit, in a checkout) and of what its numbers depend on."""
    found = {
        name: importlib.metadata.version(name)
        for name in ("torch", "torchvision", "pytorch-lightning", "torchmetrics", "scikit-learn", "numpy")
    }
    return {"deep-infomax": __version__, "commit": commit_of(Path(__file__).resolve().parent.parent), **found}


def commit_of(checkout: Path) -> str:
    """The commit of a checkout, `-dirty` behind it if files have changed since; empty for any other folder.

    A folder inside another project's checkout is none: an installed package's commit is not that project's.
    """
    if not (checkout / ".git").exists() or not shutil.which("git"):
        return ""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40"]
    return subprocess.run(command, cwd=checkout, capture_output=True, text=True).stdout.strip()


def short(commit: str) -> str:
    """Twelve digits of a commit, and whether files had changed since; `unknown` for none."""
    return f"{commit[:12]}{'-dirty' * commit.endswith('-dirty')}" or "unknown"


def machine(environment: Mapping[str, str] = os.environ) -> dict[str, str | int]:
    """Where a process with this environment makes numbers: the processor, cores that it may use, threads, GPUs."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    found: dict[str, str | int] = {"system": platform.platform(), "processor": _processor(), "cores": cores}
    if threads := environment.get("OMP_NUM_THREADS"):
        found["threads"] = threads
    visible = environment.get("CUDA_VISIBLE_DEVICES")
    if shutil.which("nvidia-smi") and visible != "":
        query = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader", *(["-i", visible] if visible else [])]
        names = subprocess.run(query, capture_output=True, text=True).stdout.split("\n")
        found["gpus"] = ", ".join(name.strip() for name in names if name.strip())
    return found


def described(machine: Mapping[str, str | int]) -> str:
    """What `machine` found, in a few words."""
    gpus = f", {machine['gpus']}" if machine.get("gpus") else ""
    return f"{machine['processor']}, {machine['cores']} cores{gpus}"


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
