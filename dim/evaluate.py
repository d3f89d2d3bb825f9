"""`dim evaluate`: everything that is measured on a frozen encoder, from the command line."""

import dataclasses
import sys
from pathlib import Path
from typing import Any

from torch import Tensor

from dim import checkpoints, cpu, release
from dim.data.sources import FIXED, ROOT, Dataset, held_out, load_for_encoder, split_validation
from dim.devices import choose_device
from dim.errors import UserError, at_least
from dim.evaluation.battery import EVALUATIONS, PROBES
from dim.evaluation.protocol import ResultFile, suiting
from dim.evaluation.protocol import evaluate as run_protocol
from dim.evaluation.settings import PROTOCOLS, Protocol, ProtocolName, file_name
from dim.files import sha256
from dim.parsing import parse
from dim.progress import bars
from dim.provenance import versions
from dim.reporting import cards
from dim.reproduction import tables
from dim.results import write_csv


@dataclasses.dataclass
class EvaluationData:
    """Which images to encode; by default those that the encoder was trained on.

    Attributes:
        root: folder with the data.
        source: cifar10, cifar100, digits, folder, or the name of a data set of your own.
        download: fetch CIFAR if it is not in root.
        validation: judge on so many training images that no probe sees, the same ones as in training, instead of on
            test images: to choose by. 0 is the test images.
    """

    root: str | None = None
    source: str | None = None
    download: bool = False
    validation: int = 0


def evaluate(
    checkpoint: str,
    data: EvaluationData = EvaluationData(),  # noqa: B008 (a parser reads the default)
    only: str = ",".join(PROBES),
    layers: str | None = None,
    protocol: ProtocolName = "quick",
    seed: int = 0,
    seeds: int = 1,
    device: str = "auto",
    output: str | None = None,
    cache: str | None = None,
) -> dict[str, Any]:
    """Fits probes and SVMs on a frozen encoder and prints their test accuracies beside the paper's.

    `dim evaluate runs/cifar10/vae --data.root DATA` encodes both splits once; run again, it does only what is missing
    from the results file. Choose between trainings or settings on held-out training images, --data.validation 5000, and
    look at test images once, at the end.

    Args:
        checkpoint: a run's folder, a checkpoint file, or a released encoder by its name or its NAME.safetensors, whose
            card is then written again.
        data: the images, resized to the encoder's size where they have another.
        only: evaluations to run, separated by commas: mlp, svm, linear, knn, rank; decoder, mine and ndm on y; all.
        layers: encoder outputs to evaluate, separated by commas; by default all that the encoder is probed on.
        protocol: quick takes minutes on two cores, standard up to an hour, full is the paper's training.
        seed: the first seed.
        seeds: number of seeds.
        device: cpu, cuda, cuda:1 ...; auto takes a GPU if there is one.
        output: the results file, NAME.json; by default evaluation.json (quick) or evaluation-PROTOCOL.json in the run's
            folder, beside the checkpoint, or in the folder NAME beside an exported NAME.safetensors. Data that the
            encoder was not trained on and held-out images have names between: evaluation-SOURCE-validation.json.
        cache: folder in which to keep the encoded images for later evaluations of the same weights, about 1.2 GB for
            CIFAR and all layers; by default they are encoded again, which takes seconds.

    Returns:
        The content of the results file.

    Raises:
        UserError: after everything else is done and printed, for evaluations that could not be done.
    """
    at_least(1, seeds=seeds)
    if output and Path(output).suffix != ".json":
        raise UserError(f"output is {output}: give a name that ends in .json; the table goes beside it as .csv")
    file = checkpoints.find_checkpoint(checkpoint)
    content = checkpoints.read_trained(file)
    encoder = checkpoints.encoder_from(content, file)
    place = choose_device(device)
    trained = content.get("datamodule_hyper_parameters", {})
    source = data.source or trained.get("source")
    if source is None:
        raise UserError(f"{file} does not say what it was trained on: give --data.source and --data.root")
    asked = layers.split(",") if layers else encoder.layers
    able = [name for name, kind in EVALUATIONS.items() if kind.of(asked)]
    evaluations = able if only == "all" else only.split(",")
    suiting(evaluations, asked)  # a mistake is told before data are read
    dataset = load_for_encoder(source, data.root or trained.get("root") or ROOT, data.download, encoder.image_size)
    own = _is_own(content, source, dataset)
    judged_on = {"source": source, "fingerprint": dataset.fingerprint}
    if data.validation:
        judged_on["validation"] = data.validation
        if own:
            _tell_of_seen(content, dataset.train.labels, data.validation)
        dataset = _judged_on(dataset, data.validation)
    all_seeds = list(range(seed, seed + seeds))
    identity = {
        "checkpoint_sha256": sha256(file),
        "data": judged_on,
        "protocol": {"name": protocol, **dataclasses.asdict(PROTOCOLS[protocol])},
        "seeds": all_seeds,
    }
    name = file_name(protocol, data.validation, "" if source == trained.get("source") else source)
    path = Path(output) if output else checkpoints.home(file) / name
    made_with = {"versions": versions(), "device": str(place)}
    results_file = ResultFile(path, identity, _about(file, content), made_with)
    with bars() as progress:
        failed = run_protocol(
            encoder,
            dataset,
            results_file,
            PROTOCOLS[protocol],
            evaluations,
            asked,
            all_seeds,
            place,
            progress,
            Path(cache) if cache else None,
        )
    if "classifier" in content and own and not data.validation and results_file.missing("classifier", ["y"]):
        # A supervised run's own classifier, on the test split after its last epoch.
        results_file.add("classifier", {"y": content["classifier"]}, 0.0)
    results_file.write()  # also what needed no work, but had been put aside
    images = f"{data.validation} held-out training images of {source}" if data.validation else source
    shown = content.get("run", {}).get("name") or file
    title = f"{shown} on {images}, epoch {content.get('epoch', -1) + 1}, {protocol} protocol"
    _print_results(results_file, source, title, PROTOCOLS[protocol])
    if file.suffix == release.SUFFIX:
        print(f"card: {cards.write(file)}")
    if failed:
        raise UserError("; ".join(failed))
    return results_file.content


def _is_own(content: dict[str, Any], source: str, dataset: Dataset) -> bool:
    """Whether these are the images that the encoder was trained on."""
    # Older checkpoints and exported files say their source alone, which tells of no folder what is in it.
    unsaid = dataset.fingerprint if source in FIXED else None
    trained_on = content.get("datamodule_hyper_parameters", {}).get("source")
    return content.get("data_fingerprint", unsaid) == dataset.fingerprint and source == trained_on


def _tell_of_seen(content: dict[str, Any], labels: Tensor, validation: int) -> None:
    """Notes that the encoder was trained on some of the images that it is to be judged on."""
    unseen = held_out(labels, content.get("datamodule_hyper_parameters", {}).get("validation", 0))
    if (held_out(labels, validation) & ~unseen).any():
        seen = "images and their labels" if content.get("run", {}).get("model") == "Supervised" else "images"
        how = f"train with --data.validation {validation} to keep them from it, too"
        print(f"dim: note: the encoder's own training saw these {seen}: {how}", file=sys.stderr)


def _about(file: Path, content: dict[str, Any]) -> dict[str, Any]:
    """What the results file says of the encoder."""
    run = content.get("run", {})
    return {
        # What is published tells nothing of where it was made.
        "checkpoint": file.name if file.suffix == release.SUFFIX else str(file),
        "name": run.get("name"),
        "trained_on": content.get("datamodule_hyper_parameters", {}).get("source"),
        "model": run.get("model"),
        "epoch": content.get("epoch"),
        "global_step": content.get("global_step"),
        "training_config": run.get("config"),
    }


def _print_results(file: ResultFile, source: str, title: str, protocol: Protocol) -> None:
    """The table, which becomes the CSV beside the results file, and what there is to say of it."""
    table = tables.rows(file.results, source, tables.published_config(file.content))
    tables.print_rows(table, title)
    for line in tables.unconverged(file.results):
        print(f"dim: warning: {line}", file=sys.stderr)
    _print_times(file.content["wall_time"], protocol)
    write_csv(file.path.with_suffix(".csv"), table)
    print(f"results: {file.path} and {file.path.with_suffix('.csv')}")


def _judged_on(dataset: Dataset, count: int) -> Dataset:
    """The training split without `count` images, which take the test split's place."""
    train, test = split_validation(dataset.train, count)
    return dataclasses.replace(dataset, train=train, test=test)


def _print_times(seconds: dict[str, float], protocol: Protocol) -> None:
    """What each part was allowed and what it took, over all invocations."""
    parts = []
    for name, spent in seconds.items():
        budget = EVALUATIONS[name].budget(protocol) if name in EVALUATIONS else ""
        parts.append(f"{name} {spent:.0f} s" + (f" ({budget})" if budget else ""))
    print("time: " + ", ".join(parts))


def run(arguments: list[str]) -> None:
    """Runs `dim evaluate ARGUMENTS`."""
    cpu.tune()
    evaluate(**parse("dim evaluate", evaluate, arguments))
