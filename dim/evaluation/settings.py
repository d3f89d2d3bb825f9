"""Protocols: the settings of every evaluation, from minutes to the paper's."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

from dim.evaluation.decoder import DecoderTraining
from dim.evaluation.information import MINETraining
from dim.evaluation.mlp import MLPProbe
from dim.evaluation.ndm import NDMTraining

ProtocolName = Literal["quick", "standard", "full"]


@dataclasses.dataclass(frozen=True)
class Protocol:
    """Settings of every evaluation; two results compare only if these are equal.

    Attributes:
        svm: keyword arguments of `svm`.
        linear: keyword arguments of `linear`.
        raw_costs: C to choose from for a second SVM on features as they are; none leaves it out.
    """

    mlp: MLPProbe
    svm: Mapping[str, Any]
    linear: Mapping[str, Any]
    decoder: DecoderTraining
    mine: MINETraining
    ndm: NDMTraining
    raw_costs: tuple[float, ...] = ()


def file_name(protocol: ProtocolName, validation: int = 0, source: str = "") -> str:
    """Of a results file, after what makes it another than the quick evaluation on the own data's test images.

    Args:
        validation: held-out training images that were judged on, 0 for test images.
        source: the data, where they are not what the encoder was trained on.
    """
    parts = ("evaluation", source, "validation" if validation else "", protocol if protocol != "quick" else "")
    return "-".join(filter(None, parts)) + ".json"


def picture_prefix(results: str) -> str:
    """What the names of pictures that belong to a results file begin with: nothing for evaluation.json."""
    stem = results.removesuffix(".json")
    return "" if stem == "evaluation" else f"{stem}-"


PROTOCOLS: dict[str, Protocol] = {
    # Minutes on two cores: short converged probes, fixed C, MINE that has only begun to settle. NDM is trained with
    # DV here and below: the exponential of the KL divergence makes an estimate near log n jump.
    "quick": Protocol(
        MLPProbe(),
        {"costs": (1e-4,)},
        {"costs": (1e-3,)},
        DecoderTraining(epochs=2, images=10_000),
        MINETraining(epochs=1),
        NDMTraining("dv", epochs=50, milestones=(25, 40)),
    ),
    # Under an hour on two cores: the SVM's C and the probes' dropout and decay, which the paper tuned on test images,
    # chosen on held-out training images; a decoder and estimators trained for a while.
    "standard": Protocol(
        MLPProbe(dropout=(0.0, 0.1, 0.3), weight_decay=(0.0, 1e-4, 1e-3), validation=0.1),
        {"costs": (1e-5, 1e-4, 1e-3)},
        {"costs": (1e-4, 1e-3, 1e-2)},
        DecoderTraining(epochs=2),
        MINETraining(epochs=3),
        NDMTraining("dv", epochs=200, milestones=(100, 150)),
        (1e-4, 1e-3),
    ),
    # The paper's training where it was published.
    "full": Protocol(
        MLPProbe.published(),
        {"loss": "hinge", "costs": (1e-4, 1e-3, 1e-2)},
        {},
        DecoderTraining.published(),
        MINETraining(),
        NDMTraining(),
        (1e-4, 1e-3, 1e-2),
    ),
}
