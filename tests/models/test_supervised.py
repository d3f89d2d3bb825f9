import torch

from dim.models import Supervised


def test_cross_entropy_and_accuracy(batch, felt):
    model = Supervised(code_size=16)
    assert felt(model, batch, ["cross_entropy"]) == {"encoder", "classifier"}
    step = model.losses(batch)
    logits = model.logits(batch.images)
    picked = logits.log_softmax(1)[torch.arange(32), batch.labels]
    torch.testing.assert_close(step.losses["cross_entropy"], -picked.mean())
    assert float(step.metrics["accuracy"]) == 100 * (logits.argmax(1) == batch.labels).float().mean()
