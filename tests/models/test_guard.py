import pytest
import torch
from processes import run_in_processes

from dim import distributed
from dim.models.guard import Failure, FiniteGuard


def note(guard, step, **losses):
    guard.note(step, {name: torch.tensor(value) for name, value in losses.items()}, torch.tensor([step, step + 1]))


def test_nothing_noted_is_no_failure():
    assert FiniteGuard().failure() is None


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf, 1e20, -1e20])
def test_what_is_not_finite_or_too_large_to_square_is_a_failure(bad):
    guard = FiniteGuard()
    note(guard, 3, fine=1.0, other=1e18)
    assert guard.failure() is None
    note(guard, 4, fine=1.0, other=bad)
    assert guard.failure() == Failure(4, "other", [4, 5])


def test_a_failure_is_found_however_late_one_asks_and_the_first_is_named():
    guard = FiniteGuard()
    note(guard, 54, late=1.0, early=1.0)
    note(guard, 55, late=1.0, early=torch.nan)
    note(guard, 56, late=torch.nan, early=torch.nan)
    note(guard, 57, late=1.0, early=1.0)
    for _ in range(2):
        assert guard.failure() == Failure(55, "early", [55, 56])


def test_what_was_looked_at_is_not_kept():
    guard = FiniteGuard()
    note(guard, 1, loss=1.0)
    note(guard, 2, loss=1.0)
    assert len(guard._unseen) == 2
    guard.failure()
    assert not guard._unseen


def failure_of_the_second_process():
    guard = FiniteGuard()
    note(guard, 2, loss=1.0)
    note(guard, 3, loss=torch.nan if distributed.rank() == 1 else 1.0)
    return tuple(guard.failure())


def test_all_processes_hear_of_a_failure_in_one(tmp_path):
    heard = run_in_processes(failure_of_the_second_process, tmp_path)
    assert heard == [(3, "loss", [3, 4, 3, 4])] * 2
