"""When an estimate is not to be believed."""

import warnings


def warn_of_doubt(estimate: float, train: float, ceiling: float, unit: str) -> None:
    """Warns, in one line, of an estimate near what its pairs can certify, or far below that of the training pairs.

    Args:
        estimate, train, ceiling: of held-out pairs, of training pairs and log n, in `unit`.
    """
    if estimate > 0.9 * ceiling:
        message = f"{estimate:.2f} {unit} is close to log n = {ceiling:.2f}: this many held-out pairs certify no more"
    elif train - estimate > max(0.5, 0.2 * abs(train)):
        message = (
            f"{train:.2f} {unit} on training pairs but {estimate:.2f} on held-out ones: the critic overfits; give more "
            "pairs or fewer epochs"
        )
    else:
        return
    warnings.warn(f"mine: {message}", stacklevel=4)  # the line that called `fit`
