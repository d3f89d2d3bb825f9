"""What the scripts on speed share: the machine's ceiling, fresh processes and their memory, and files of results.

Imports little (neither Lightning nor torchvision), since what a fresh process imports counts as its memory.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from dim.files import write_json
from dim.provenance import machine, versions

SIDE = 2048
FORMULA = """\
FLOPs of a step of local DIM, 2 for each multiply-add, every layer forward, weight gradient and input gradient once:
  encoder:   6 N (16*16*64*48*2/3 + 8*8*128*1024 + 4*4*256*2048 + 4096*1024 + 1024*64)   (no gradient of the images)
  critic:    6 N (64 (2*128 U + U^2) + 2*64 U + U^2)                                      (map block, code block)
  scores:    6 N * 64 N U
  prior:     6 N (64*1000 + 1000*200 + 200)                                               (once, of three passes)
Not counted: batch and layer norm, ReLU, log-sum-exps, gradient penalty, Adam."""


def local_dim_flops(n: int, units: int) -> float:
    """The formula above."""
    encoder = 16 * 16 * 64 * 48 * 2 / 3 + 8 * 8 * 128 * 1024 + 4 * 4 * 256 * 2048 + 4096 * 1024 + 1024 * 64
    critic = 64 * (2 * 128 * units + units**2) + 2 * 64 * units + units**2
    return 6 * n * (encoder + critic + 64 * n * units + 64 * 1000 + 1000 * 200 + 200)


def seconds(action: Callable[[], Any]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


class Ceiling:
    """FLOP/s of the best of five 2048^3 float32 products on the current threads."""

    def __init__(self) -> None:
        self.a, self.b, self.out = (torch.randn(SIDE, SIDE) for _ in range(3))

    def __call__(self) -> float:
        return 2 * SIDE**3 / min(seconds(lambda: torch.mm(self.a, self.b, out=self.out)) for _ in range(5))


def parse_or_run(parser: argparse.ArgumentParser, run: Callable[..., dict[str, Any]]) -> argparse.Namespace:
    """The command line's options; in a process that `in_fresh_process` started, runs its task instead and ends."""
    parser.add_argument("--task", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.task:
        print(json.dumps(run(**json.loads(options.task))))
        sys.exit()
    return options


def in_fresh_process(script: str, **task: Any) -> dict[str, Any]:
    """Runs `python SCRIPT --task JSON`, whose last line of output is JSON; peak memory is then the task's own."""
    command = [sys.executable, script, "--task", json.dumps(task)]
    output = subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE).stdout
    return json.loads(output.splitlines()[-1])


def peak_gib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def save(path: Path | None, options: argparse.Namespace, **content: Any) -> None:
    if path:
        kept = {name: value for name, value in vars(options).items() if name not in ("json", "task", "root")}
        about = {"options": json.loads(json.dumps(kept, default=str)), "versions": versions(), "machine": machine()}
        write_json(path, {**about, "threads": torch.get_num_threads(), **content})
