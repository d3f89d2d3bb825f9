"""Faults tried on real processes, and whether they were survived: kills, full disks, damaged and hostile files.

    python benchmarks/faults.py [--kills 24] [--seed 0] [--json FILE] [--page docs/robustness.md]

Kills: a training on the digits writes `last.ckpt` after every step and is killed at a random moment by SIGKILL, SIGTERM
or SIGINT (the six models and three signals in turn); where SIGKILL leaves a half-written file behind, it fell into the
writing. It is survived if `last.ckpt` can be read at once, and the resumed training ends with the bits (weights,
optimiser, moving averages, online probe, position in the data) of one that was never killed. The other faults are
survived if the command ends with status 2 and one line that says what was wrong, without a traceback, and what was
there before is unchanged.
"""

import argparse
import collections
import itertools
import json
import os
import pickle
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from rich.console import Console
from rich.progress import track
from rich.table import Table

from dim.files import replacing, sha256, write_json
from dim.provenance import versions
from dim.reporting.text import with_section

MODELS = {
    "DIM(L)": "DeepInfoMax --model.units 16 --model.gamma 1",
    "VAE": "Autoencoder --model.kl_weight 1",
    "AAE": "AdversarialAutoencoder",
    "BiGAN": "BiGAN",
    "NAT": "NoiseAsTargets --model.period 1",
    "supervised": "Supervised",
}
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
STEPS = 12
DATA = "--data ImageData --data.source digits --data.batch_size 16 --trainer.accelerator cpu --codes.images 0"
LIMITS = f"--trainer.max_epochs 2 --trainer.limit_train_batches {STEPS // 2} --checkpoint.every_n_steps 1"
RUN = Path("digits/run")
LAST = RUN / "checkpoints" / "last.ckpt"
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}
CONTRADICTIONS = (
    ("option that does not exist", "--model.lerning_rate 1", "did you mean 'learning_rate'"),
    ("no objective with a weight", "--model.alpha 0 --model.beta 0 --model.gamma 0", "alpha and beta are both 0"),
    ("negatives in batches of one image", "--data.batch_size 1", "batch"),
    ("probe on a layer that is not there", "--probe.layers [conv9]", "no layer 'conv9'"),
    ("devices that are not there", "--trainer.accelerator gpu --trainer.devices 2", "gpu"),
)
BEGIN, END = "<!-- faults: written by benchmarks/faults.py; do not edit -->", "<!-- end of faults -->"
PARTS = ("state_dict", "optimizer_states", "lr_schedulers", "callbacks", "loops")


def command(runs: Path, model: str, *options: str) -> list[str]:
    fixed = f"--model {MODELS[model]} {DATA} {LIMITS} --pictures.every_n_epochs 0 --trainer.enable_model_summary false"
    return [sys.executable, "-m", "dim", "fit", *fixed.split(), "--runs", str(runs), *options]


def run(words: list[str], **options: Any) -> subprocess.CompletedProcess:
    return subprocess.run(words, env=ENVIRONMENT, capture_output=True, text=True, **options)


def state(runs: Path) -> dict[str, Any]:
    checkpoint = torch.load(runs / LAST, weights_only=True)
    return {part: checkpoint[part] for part in PARTS}


def same(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


def killed(
    place: Path, model: str, number: signal.Signals, whole: dict[str, Any], draws: random.Random
) -> tuple[str, str]:
    """Trains, kills, resumes: when it was killed, and what went wrong, empty if survived."""
    runs = place / "killed"
    shutil.rmtree(runs, ignore_errors=True)
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(command(runs, model), env=ENVIRONMENT, **quiet)
    while not (runs / LAST).exists():
        if process.poll() is not None:
            return "at the start", "ended before its first checkpoint"
        time.sleep(0.002)
    time.sleep(draws.random() * 2)
    finished = process.poll() is not None
    process.send_signal(number)
    process.wait()
    half = list((runs / LAST).parent.glob(".last.ckpt.*"))
    moment = "after the end" if finished else "while a checkpoint is written" if half else "at a random moment"
    try:
        reached = torch.load(runs / LAST, weights_only=True)["global_step"]
    except Exception as error:
        return moment, f"last.ckpt cannot be read: {error}"
    if not finished:
        done = run(command(runs, model, "--ckpt_path", "last"))
        if done.returncode:
            return moment, f"resuming from step {reached} failed: {done.stderr.strip().splitlines()[-1:]}"
        if half[:1] and half[0].exists():
            return moment, "the half-written file is still there"
    return moment, "" if same(whole, state(runs)) else f"resumed from step {reached}, it ends with other bits"


def kills(place: Path, count: int, draws: random.Random) -> Iterator[tuple[str, str]]:
    """(fault, what went wrong) of each kill."""
    whole: dict[str, dict[str, Any]] = {}
    for trial in track(range(count), "kills"):
        model, number = list(MODELS)[trial % len(MODELS)], SIGNALS[(trial + trial // len(MODELS)) % len(SIGNALS)]
        if model not in whole:
            run(command(place / model, model), check=True)
            whole[model] = state(place / model)
        moment, wrong = killed(place, model, number, whole[model], draws)
        yield f"{number.name} {moment}", wrong


def refused(words: list[str], message: str, keep: Path | None = None, **options: Any) -> str:
    """Empty if a command ends with one clear line and leaves the file `keep` as it was."""
    before = sha256(keep) if keep else ""
    done = run(words, **options)
    lines = [line for line in done.stderr.splitlines() if line.startswith("dim: ")]
    if done.returncode != 2 or len(lines) != 1 or "Traceback" in done.stderr:
        return f"status {done.returncode}: {' / '.join(done.stderr.strip().splitlines()[-2:])}"
    if message not in lines[0]:
        return f"says {lines[0]}"
    return "" if not keep or sha256(keep) == before else f"{keep.name} is not what it was"


def changed(source: Path, target: Path, change: Callable[[bytearray], bytearray | bytes]) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(change(bytearray(source.read_bytes())))
    return target


class Hostile:
    """Unpickled, it makes a folder."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.trace),)


def flip(data: bytearray) -> bytearray:
    data[len(data) // 2] ^= 1
    return data


def small_files() -> None:
    """Files of a run may not grow beyond this: what a full disk does, without filling one."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))


def others(place: Path) -> Iterator[tuple[str, str]]:
    """(fault, what went wrong) of everything that is no kill."""
    runs, model = place / "others", "supervised"
    run(command(runs, model), check=True)
    good = runs / LAST
    resume = command(runs, model, "--ckpt_path", "last", "--trainer.max_epochs", "4")
    yield "full disk while a checkpoint is written", refused(resume, "last.ckpt", good, preexec_fn=small_files)
    (place / "file").write_text("")
    yield "runs folder that cannot be made", refused(command(place / "file", model), "file")
    damages = {
        "cut short": lambda data: data[: len(data) // 3],
        "with a flipped bit": flip,
        "of zero bytes": lambda data: b"",
        "that is no checkpoint": lambda data: b"not a checkpoint",
    }
    for name, change in damages.items():
        path = changed(good, place / "damaged.ckpt", change)
        yield f"resuming from a checkpoint {name}", refused(command(runs, model, "--ckpt_path", str(path)), "damaged")
        evaluate = [sys.executable, "-m", "dim", "evaluate", str(path)]
        yield f"evaluating a checkpoint {name}", refused(evaluate, "damaged")
    trace, path = place / "executed", place / "hostile.ckpt"
    for protocol in (2, 4):
        path.write_bytes(pickle.dumps(Hostile(trace), protocol))
        wrong = refused([sys.executable, "-m", "dim", "evaluate", str(path)], "hostile")
        yield "checkpoint that is a pickle which runs code", wrong or ("its code ran" if trace.exists() else "")
    torch.save({"state_dict": Hostile(trace)}, path)
    wrong = refused(command(runs, model, "--ckpt_path", str(path)), "hostile")
    yield "checkpoint that hides code inside", wrong or ("its code ran" if trace.exists() else "")
    config = place / "old.yaml"
    config.write_text((runs / RUN / "config.yaml").read_text().replace("warmup_steps", "warm_up"))
    words = [sys.executable, "-m", "dim", "fit", "--config", str(config), "--runs", str(place / "old")]
    yield "config of another version", refused(words, "warm_up")
    diverging = ["--model.learning_rate", "1e30", "--overwrite", "true"]
    yield "loss that is not finite", refused(command(runs, model, *diverging), "not finite")
    for what, options, message in CONTRADICTIONS:
        yield what, refused(command(place / "none", "DIM(L)", *options.split()), message)
    yield from folders(place)


def folders(place: Path) -> Iterator[tuple[str, str]]:
    """Image folders that nobody should have to trust."""

    def bomb(path: Path) -> None:
        Image.new("1", (30_000, 30_000)).save(path)  # some kilobytes, which decoded are 2.7 GB

    def cut(path: Path) -> None:
        path.write_bytes(path.read_bytes()[:60])

    def lead_out(path: Path) -> None:
        path.unlink()
        path.symlink_to("/etc/passwd")

    harms: dict[str, tuple[Callable[[Path], None], str]] = {
        "image that is a decompression bomb": (bomb, "too large to be opened safely"),
        "image cut short": (cut, "not a readable image"),
        "image that is a link out of its folder": (lead_out, "leads out"),
    }
    for what, (harm, message) in harms.items():
        root = place / what.replace(" ", "-")
        for number, part in itertools.product(range(4), ("train/a", "train/b", "test/a", "test/b")):
            (root / part).mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (32, 32), (number, 9, 9)).save(root / part / f"{number}.png")
        harm(root / "train/a/1.png")
        options = ["--data.source", "folder", "--data.root", str(root), "--data.batch_size", "4"]
        yield what, refused(command(place / "none", "supervised", *options), message)


def table_of(rows: list[dict[str, Any]]) -> str:
    """The page's table."""
    lines = [f"| {row['fault']} | {row['tried']} | {row['survived']} |" for row in rows]
    return "\n".join(["| fault | tried | survived |", "|---|---:|---:|", *lines, ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=24, help="0 keeps those that FILE tells of")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--page", type=Path, help="rewrite the table of this page")
    options = parser.parse_args()
    tried: collections.Counter[str] = collections.Counter()
    survived: collections.Counter[str] = collections.Counter()
    wrong: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        for trials in (kills(place, options.kills, random.Random(options.seed)), others(place)):
            for fault, what in trials:
                tried[fault] += 1
                survived[fault] += not what
                wrong += [f"{fault}: {what}"] if what else []
    table = Table(title="faults", title_justify="left")
    for name in ("fault", "tried", "survived"):
        table.add_column(name, justify="left" if name == "fault" else "right")
    for fault, count in tried.items():
        table.add_row(fault, str(count), str(survived[fault]))
    Console().print(table)
    print("\n".join(wrong))
    rows = [{"fault": fault, "tried": count, "survived": survived[fault]} for fault, count in tried.items()]
    if not options.kills and options.json and options.json.is_file():
        earlier = json.loads(options.json.read_text())["rows"]
        rows = [row for row in earlier if row["fault"].startswith("SIG")] + rows
    if options.json:
        write_json(options.json, {"seed": options.seed, "versions": versions(), "rows": rows, "wrong": wrong})
    if options.page:
        page = with_section(options.page.read_text(), table_of(rows), options.page, BEGIN, END)
        with replacing(options.page, "w") as file:
            file.write(page)
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
