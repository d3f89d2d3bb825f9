from types import SimpleNamespace

import pytest
import torch
from processes import run_in_processes

from dim import distributed
from dim.data.loader import Batch
from dim.errors import UserError
from dim.models import Supervised


@pytest.fixture
def measure(monkeypatch):
    """Ends an epoch after so many steps, with these batches as test images."""
    monkeypatch.setattr(Supervised, "log", lambda *args, **options: None)

    def measured(model, batches, step=4):
        data = SimpleNamespace(predict_dataloader=lambda: batches)
        model._trainer, model._fabric = SimpleNamespace(datamodule=data, global_step=step), None
        model.on_train_epoch_end()
        return float(model.final_accuracy), float(model.best_accuracy)

    return measured


def split(batch, rows):
    return [Batch(*parts) for parts in zip(*(side.split(rows) for side in batch), strict=True)]


def test_cross_entropy_and_accuracy(batch, felt):
    model = Supervised(code_size=16)
    assert felt(model, batch, ["cross_entropy"]) == {"encoder", "classifier"}
    step = model.losses(batch)
    logits = model.logits(batch.images)
    picked = logits.log_softmax(1)[torch.arange(32), batch.labels]
    torch.testing.assert_close(step.losses["cross_entropy"], -picked.mean())
    assert float(step.metrics["accuracy"]) == 100 * (logits.argmax(1) == batch.labels).float().mean()


def test_the_test_accuracy_is_that_of_evaluation_and_changes_nothing(batch, measure):
    model = Supervised(code_size=16)
    model.logits(batch.images)
    before = {name: value.clone() for name, value in model.state_dict().items() if "accuracy" not in name}
    final, _ = measure(model, split(batch, [20, 12]))
    assert model.training
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in before.items())
    in_evaluation, in_training = (
        100 * float((model.train(mode).logits(batch.images).argmax(1) == batch.labels).float().mean())
        for mode in (False, True)
    )
    assert final == pytest.approx(in_evaluation)
    assert final != pytest.approx(in_training)


def accuracy_of_a_share(batch):
    torch.manual_seed(0)
    model = Supervised(code_size=16)
    model.log = lambda *args, **options: None
    rows = slice(16 * distributed.rank(), 16 * (distributed.rank() + 1))
    data = SimpleNamespace(predict_dataloader=lambda: [Batch(*(side[rows] for side in batch))])
    model._trainer, model._fabric = SimpleNamespace(datamodule=data, global_step=1), None
    model.on_train_epoch_end()
    return float(model.final_accuracy)


def test_all_processes_together_have_one_accuracy(batch, tmp_path):
    torch.manual_seed(0)
    chosen = Supervised(code_size=16).eval().logits(batch.images).argmax(1)
    # The first process is right on all of its images, the second on a quarter.
    labels = torch.where(torch.arange(32) < 20, chosen, (chosen + 1) % 10)
    found = run_in_processes(accuracy_of_a_share, tmp_path, batch._replace(labels=labels))
    assert found == [pytest.approx(62.5)] * 2


def test_the_best_accuracy_stays_when_a_later_one_is_worse(batch, measure):
    model = Supervised(code_size=16)
    torch.nn.init.zeros_(model.classifier.weight)
    torch.nn.init.zeros_(model.classifier.bias)  # all scores are alike: the first class is chosen
    mixed = [batch._replace(labels=torch.arange(32) % 2)]
    never = [batch._replace(labels=torch.ones(32))]
    assert measure(model, never) == (0, 0)
    assert measure(model, mixed) == (50, 50)
    assert measure(model, never) == (0, 50)


def test_only_a_checkpoint_of_the_weights_that_were_measured_holds_an_accuracy(batch, measure):
    model = Supervised(code_size=16)
    at_the_end, within_the_next = {}, {}
    final, best = measure(model, [batch], step=4)
    model.on_save_checkpoint(at_the_end)
    model.trainer.global_step = 6
    model.on_save_checkpoint(within_the_next)
    assert at_the_end["classifier"] == {"accuracy": final, "accuracy_best": best}
    assert "classifier" not in within_the_next


def test_no_classes_are_refused():
    with pytest.raises(UserError, match="num_classes is -1: it must be at least 1"):
        Supervised(num_classes=-1)
