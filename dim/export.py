"""`dim export`: the encoder of a run as a file that can be published, with its hash and its card."""

import hashlib
import json
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
import yaml
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from torch import Tensor

from dim import checkpoints, release
from dim.data.sources import ROOT
from dim.errors import UserError
from dim.files import replacing, sha256, write_json
from dim.networks.encoders import build_encoder, rebuild_encoder
from dim.networks.inputs import SCALING
from dim.parsing import parse
from dim.provenance import described, versions
from dim.reporting import cards
from dim.reproduction.runs import read_record


def export(
    run: str,
    output: Path | None = None,
    half: bool = False,
    overwrite: bool = False,
    licence: str = "MIT",
    note: str | None = None,
) -> Path:
    """Writes the encoder of a run as OUTPUT (safetensors), with its hash and facts in a .json and a card in a .md.

    The card takes the numbers that the run's evaluations of this very checkpoint hold. `dim evaluate OUTPUT` measures
    the file itself and writes the card again.

    Args:
        run: a run's folder or a checkpoint file.
        output: the file, NAME.safetensors; by default RUN_DATA.safetensors in the run's folder.
        half: store weights in float16, half the size; norms and biases stay float32, and loading gives float32. Without
            it the encoder is that of the run, bit for bit.
        overwrite: replace what an earlier export wrote.
        licence: of the weights, for the card.
        note: what the card should say beside: for instance how the training differed from its command.

    Returns:
        The file's path.
    """
    file = checkpoints.find_checkpoint(run)
    if file.suffix == release.SUFFIX:
        raise UserError(f"{file} is an exported encoder: give the run that it comes from")
    content = checkpoints.read_checkpoint(file)
    state = checkpoints.encoder_from(content, file).state_dict()
    stored = _stored(state, half, file)
    facts = {**_facts(content, file), "precision": "float16" if half else "float32", "licence": licence}
    path = output or checkpoints.home(file) / f"{_name(facts)}{release.SUFFIX}"
    _refuse_used(path, overwrite)
    data = safetensors.torch.save(stored, {release.HEADER: json.dumps(facts)})
    record = {
        "schema_version": release.FORMAT,
        "sha256": hashlib.sha256(data).hexdigest(),
        "bytes": len(data),
        "metadata": facts,
        "reference": release.reference(rebuild_encoder(facts["encoder"], facts["code_size"], stored, path)),
        "cost": cost(checkpoints.home(file), content.get("global_step", 0)),
        "exported_with": versions(),
        "evaluations": cards.evaluations(checkpoints.home(file), facts["checkpoint_sha256"]),
    }
    if note:
        record["note"] = note
    with replacing(path) as handle:
        handle.write(data)
    write_json(path.with_suffix(".json"), record)
    card = cards.write(path)
    print(f"encoder: {path} ({len(data) / 1e6:.1f} MB)\nhash and facts: {path.with_suffix('.json')}\ncard: {card}")
    return path


def _stored(state: dict[str, Tensor], half: bool, file: Path) -> dict[str, Tensor]:
    """The tensors to write. Vectors are a thousandth of the size, and variances may exceed float16's range."""
    stored = {
        name: (value.half() if half and value.ndim > 1 else value).contiguous(memory_format=torch.contiguous_format)
        for name, value in state.items()
    }
    for name, value in stored.items():
        if not value.isfinite().all():
            before = state[name].isfinite().all()
            why = "exceeds float16: export it without --half" if before else "is not finite: the encoder has diverged"
            raise UserError(f"{name} of {file} {why}")
    return stored


def _facts(content: dict[str, Any], file: Path) -> dict[str, Any]:
    """What the checkpoint says of itself; what it does not say is left out."""
    parameters, run = content["hyper_parameters"], content.get("run", {})
    known = {
        "format_version": release.FORMAT,
        "encoder": parameters["encoder"],
        "code_size": parameters["code_size"],
        "image_size": build_encoder(parameters["encoder"], parameters["code_size"]).image_size,
        "scaling": SCALING,
        "name": run.get("name"),
        "model": run.get("model"),
        "data": content.get("datamodule_hyper_parameters", {}).get("source"),
        "epoch": content.get("epoch"),
        "global_step": content.get("global_step"),
        "training_config": _portable(run["config"]) if "config" in run else None,
        "version": run.get("version"),
        "commits": run.get("commits"),
        "started_from": content.get("started_from"),
        "checkpoint_sha256": sha256(file),
    }
    return {name: value for name, value in known.items() if value is not None}


def _portable(config: str) -> str:
    """A run's config without the places of one machine: the command says where data and runs are."""
    content = yaml.safe_load(config)
    options = content.get("data", {}).get("init_args", {})
    if "root" in options:
        options["root"] = ROOT
    content.pop("runs", None)
    return yaml.safe_dump(content, sort_keys=False)


def _name(facts: dict[str, Any]) -> str:
    """RUN_DATA, as far as they are known."""
    parts = [facts.get("name", "encoder").replace("/", "_"), facts.get("data", "")]
    return "_".join(part for part in parts if part)


def _refuse_used(path: Path, overwrite: bool) -> None:
    if path.suffix != release.SUFFIX:
        raise UserError(f"{path} must end in {release.SUFFIX}")
    for used in (path, path.with_suffix(".json"), path.with_suffix(".md")):
        if used.exists() and not overwrite:
            raise UserError(f"{used} exists: replace it with --overwrite true, or choose another --output")


def cost(run: Path, step: int) -> dict[str, Any]:
    """How long a run took to `step` by its log: each session (it may have been resumed) from first to last entry.

    Empty where the run has no TensorBoard log; machines are known of runs that `dim reproduce` made.
    """
    found: dict[str, Any] = {}
    sessions = []
    for log in sorted(run.glob("logs/events.out.tfevents.*")):
        entries = [(event.step, event.wall_time) for event in EventFileLoader(str(log)).Load()]
        # What is written at the end of training under step 0, the hyper-parameters, is of no step.
        until = max((time for at, time in entries if 0 < at <= step), default=0.0)
        if until > (began := min((time for _, time in entries), default=until)):
            sessions.append(round(until - began, 1))
    if sessions:
        found |= {"sessions": len(sessions), "seconds": round(sum(sessions), 1)}
    machines = [session["machine"] for session in (read_record(run) or {}).get("sessions", [])]
    if machines:
        found["machines"] = sorted({described(machine) for machine in machines})
    return found


def run(arguments: list[str]) -> None:
    """Runs `dim export ARGUMENTS`."""
    export(**parse("dim export", export, arguments))
