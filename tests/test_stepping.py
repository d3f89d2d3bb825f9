from types import SimpleNamespace

import pytest

from dim.stepping import due, stepped


@pytest.mark.parametrize(("every", "logged"), [(3, [3, 6]), (1, [1, 2, 3, 4, 5, 6]), (0, [])])
def test_logs_are_due_after_every_so_many_steps(every, logged):
    trainer = SimpleNamespace(log_every_n_steps=every)
    assert [step for step in range(1, 7) if due(trainer, step)] == logged


@pytest.mark.parametrize("gathering", [True, False])
def test_a_batch_whose_gradients_are_gathered_is_no_step(gathering):
    trainer = SimpleNamespace(fit_loop=SimpleNamespace(_should_accumulate=lambda: gathering))
    assert stepped(trainer) is not gathering
