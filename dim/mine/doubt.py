"""When an estimate is not to be believed."""

import warnings

FEW_STEPS = 10


def warn_of_doubt(estimate: float, train: float, ceiling: float, unit: str, kept: int, last: int) -> None:
    """Warns, in one line, of an estimate near the most that it can be, far below that of the training pairs, or early.

    Args:
        estimate, train: of held-out and of training pairs, in `unit`.
        ceiling: log n, or the objective's own limit, in `unit`.
        kept, last: the step of the critic that was kept, and the last one that was taken.
    """
    if estimate > 0.9 * ceiling:
        message = (
            f"{estimate:.2f} {unit} is close to the ceiling of {ceiling:.2f}: so many held-out pairs (infonce: "
            "negatives) certify no more"
        )
    elif train - estimate > max(0.5, 0.2 * abs(train)):
        message = (
            f"{train:.2f} {unit} on training pairs but {estimate:.2f} on held-out ones: the critic overfits; give more "
            "pairs or fewer epochs"
        )
    elif kept < last and kept < FEW_STEPS:
        message = (
            f"the critic of step {kept} of {last} was best on validation pairs, before it can have learnt much: give "
            "more pairs, a smaller batch_size, or patience None"
        )
    else:
        return
    warnings.warn(f"mine: {message}", stacklevel=4)  # the line that called `fit`
