"""A run that is interrupted, also several times, must be the uninterrupted run: same batches, weights and counters."""

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import nn

from dim.data.datamodule import ImageData
from dim.errors import UserError

BATCHES = 5  # an epoch
EPOCHS = 3


class InterruptionError(Exception):
    pass


class Tiny(pl.LightningModule):
    """Records (epoch, batch, rows) of completed steps; raises InterruptionError in the step `stop`."""

    def __init__(self, stop, manual):
        super().__init__()
        self.linear = nn.Linear(192, 10)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)
        self.stop, self.automatic_optimization = stop, not manual
        self.seen, self.ended = [], []

    def training_step(self, batch, batch_idx):
        if self.stop == self.current_epoch * BATCHES + batch_idx:
            raise InterruptionError
        loss = nn.functional.cross_entropy(self.linear(batch.images.flatten(1)), batch.labels)
        if not self.automatic_optimization:
            optimizer = self.optimizers()
            optimizer.zero_grad()
            self.manual_backward(loss)
            optimizer.step()
        self.seen.append((self.current_epoch, batch_idx, batch.indices.tolist()))
        return loss

    def validation_step(self, *_):
        pass

    def on_train_epoch_end(self):
        self.ended.append(self.current_epoch)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), 0.01)


class SaveWhenInterrupted(pl.Callback):
    def on_exception(self, trainer, module, exception):
        trainer.save_checkpoint(f"{trainer.default_root_dir}/exception.ckpt")


def run(folder, stop=None, checkpoint=None, manual=False, batch_size=256, validation=0, **limits):
    model = Tiny(stop, manual)
    steps = ModelCheckpoint(folder, "{step}", every_n_train_steps=1, save_top_k=-1)
    epochs = ModelCheckpoint(folder, "{epoch}", every_n_epochs=1, save_top_k=-1, save_on_train_epoch_end=True)
    trainer = pl.Trainer(
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        callbacks=[SaveWhenInterrupted(), steps, epochs],
        default_root_dir=folder,
        **limits,
    )
    data = ImageData("digits", batch_size=batch_size, image_size=8, validation=validation)
    try:
        trainer.fit(model, data, ckpt_path=checkpoint)
    except InterruptionError:
        assert stop is not None
    else:
        assert stop is None
    return model, trainer


# A checkpoint each: from an exception in step n, after n steps, or at the end of an epoch; and the step where the run
# that wrote it ended.
def exception(step):
    return "exception.ckpt", step


def after(steps):
    return f"step={steps}.ckpt", steps


def end_of(epoch):
    return f"epoch={epoch}.ckpt", (epoch + 1) * BATCHES


CHAINS = {
    "exception in the first step": [exception(0)],
    "exception": [exception(7)],
    "exception in an epoch's first step": [exception(5)],
    "exception in an epoch's last step": [exception(9)],
    "two exceptions": [exception(7), exception(8)],
    "step": [after(3)],
    "last step of an epoch": [after(5)],
    "steps": [after(3), after(7)],
    "last step, then the next": [after(5), after(6)],
    "last step, then last step": [after(5), after(10)],
    "last step, then exception": [after(10), exception(12)],
    "exception, then step": [exception(2), after(4)],
    "exception, last step, step": [exception(2), after(5), after(8)],
    "epoch": [end_of(0)],
    "epochs": [end_of(0), end_of(1)],
    "epoch, then exception": [end_of(0), exception(7)],
    "epoch, then step": [end_of(0), after(12)],
}
SETTINGS = {
    "epochs": {"max_epochs": EPOCHS},
    "steps": {"max_steps": EPOCHS * BATCHES},
    "validation": {"max_epochs": EPOCHS, "batch_size": 220, "validation": 220},
    "manual": {"max_epochs": EPOCHS, "manual": True},
}


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    runs = {}

    def get(name):
        if name not in runs:
            runs[name] = run(tmp_path_factory.mktemp(name), **SETTINGS[name])
        return runs[name]

    return get


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("settings", ["epochs", "steps"])
@pytest.mark.parametrize("stop", [7, 12])  # in the last epoch, too
def test_a_run_that_steps_ended_within_an_epoch_goes_on_there(uninterrupted, tmp_path, stop, settings):
    run(tmp_path / "first", max_steps=stop)
    end = tmp_path / "first" / f"epoch={stop // BATCHES}.ckpt"
    model, trainer = run(tmp_path / "second", checkpoint=end, **SETTINGS[settings])
    whole, _ = uninterrupted(settings)
    assert model.seen == whole.seen[stop:]
    assert trainer.global_step == EPOCHS * BATCHES
    torch.testing.assert_close(model.linear.weight, whole.linear.weight, atol=0, rtol=0)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("chain", CHAINS.values(), ids=CHAINS)
@pytest.mark.parametrize(
    "settings", [pytest.param(name, marks=[] if name == "epochs" else pytest.mark.slow) for name in SETTINGS]
)
def test_resumed_run_is_the_uninterrupted_one(uninterrupted, tmp_path, settings, chain):
    expected, expected_trainer = uninterrupted(settings)
    seen, ended, checkpoint = [], set(), None
    for i, (name, stop) in enumerate([*chain, (None, None)]):
        folder = tmp_path / str(i)
        folder.mkdir()
        model, trainer = run(folder, stop, checkpoint, **SETTINGS[settings])
        seen += model.seen
        # An epoch may end both before the interruption and in the resumed run, if the checkpoint stands between.
        assert len(model.ended) == len(set(model.ended))
        ended |= set(model.ended)
        checkpoint = folder / name if name else None
    assert seen == expected.seen
    assert ended == set(expected.ended)
    assert torch.equal(model.linear.weight, expected.linear.weight)
    assert torch.equal(model.linear.bias, expected.linear.bias)
    assert trainer.global_step == expected_trainer.global_step == EPOCHS * BATCHES
    assert trainer.current_epoch == expected_trainer.current_epoch == EPOCHS


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_resuming_with_another_seed_is_refused(tmp_path):
    run(tmp_path, stop=7, max_epochs=EPOCHS)
    data = ImageData("digits", batch_size=256, image_size=8, seed=1)
    trainer = pl.Trainer(
        accelerator="cpu", logger=False, enable_progress_bar=False, max_epochs=EPOCHS, default_root_dir=tmp_path
    )
    with pytest.raises(UserError, match="seed 0, now seed is 1"):
        trainer.fit(Tiny(None, False), data, ckpt_path=tmp_path / "exception.ckpt")
