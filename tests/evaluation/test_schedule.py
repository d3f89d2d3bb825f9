import pytest
import torch

from dim.evaluation.schedule import schedule


@pytest.mark.parametrize(
    ("decay", "expected"),
    [("steps", [1, 1, 0.1, 0.1, 0.1, 0.1, 0.01, 0.01]), ("cosine", [1, 0.962, 0.854, 0.691, 0.5, 0.309, 0.146, 0.038])],
)
def test_rates_fall_by_batches(decay, expected):
    optimiser = torch.optim.SGD([torch.zeros(1, requires_grad=True)], 1.0)
    scheduler, rates = schedule(optimiser, decay, (1, 3), epochs=4, steps=2), []
    for _ in range(8):
        rates.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        scheduler.step()
    assert rates == pytest.approx(expected, abs=1e-3)
