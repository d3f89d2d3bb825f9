import itertools

import pytest
import pytorch_lightning as pl
import torch
from torch import nn

from dim.data import datamodule
from dim.data.datamodule import ImageData
from dim.data.loader import DeviceLoader
from dim.errors import UserError


class Recorder(pl.LightningModule):
    """Trains a linear classifier and keeps the rows it saw."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(192, 10)
        self.seen = {"train": [], "validate": [], "test": []}

    def training_step(self, batch, batch_idx):
        self.seen["train"].append(batch.indices.tolist())
        return nn.functional.cross_entropy(self.linear(batch.images.flatten(1)), batch.labels)

    def validation_step(self, batch, batch_idx):
        self.seen["validate"].append(batch.indices.tolist())

    def test_step(self, batch, batch_idx):
        self.seen["test"].append(batch.indices.tolist())

    def predict_step(self, batch, batch_idx):
        return batch.indices

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


def flat(batches):
    return list(itertools.chain.from_iterable(batches))


def trainer(folder, **options):
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    return pl.Trainer(accelerator="cpu", default_root_dir=folder, **quiet, **options)


def digits(**options):
    return ImageData("digits", image_size=8, **{"batch_size": 256, **options})


def test_without_a_trainer():
    data = digits(validation=300)
    data.prepare_data()
    data.setup()
    assert (data.num_classes, data.image_size) == (10, 8)
    assert len(data.train_dataloader()) == 1137 // 256
    # Losses are averaged over whole batches; features are wanted of every image.
    assert [len(batch.labels) for batch in data.val_dataloader()] == [256]
    assert [len(batch.labels) for batch in data.test_dataloader()] == [256]
    assert sum(len(batch.labels) for batch in data.predict_dataloader()) == 360
    assert len(data.dataset.train.labels) == 1437


def test_setup_alone_is_enough():
    data = digits()
    data.setup("fit")
    assert len(data.train_dataloader()) == 5


def test_before_setup():
    with pytest.raises(RuntimeError, match="setup"):
        _ = digits().num_classes


def test_training_validation_test_and_prediction(tmp_path):
    data, model = digits(validation=300), Recorder()
    run = trainer(tmp_path, max_epochs=2, num_sanity_val_steps=0, enable_checkpointing=False)
    run.fit(model, data)
    assert isinstance(run.train_dataloader, DeviceLoader)  # neither wrapped nor replaced
    epochs = [flat(model.seen["train"][start : start + 4]) for start in (0, 4)]
    for epoch in epochs:
        assert len(set(epoch)) == 4 * 256
    assert epochs[0] != epochs[1]
    assert model.seen["validate"] == [list(range(256))] * 2  # whole batches
    run.test(model, data, verbose=False)
    assert model.seen["test"] == [list(range(256))]
    assert torch.equal(torch.cat(run.predict(model, data)), torch.arange(360))


def test_data_are_loaded_once(tmp_path, monkeypatch):
    calls = []
    load = datamodule.load_dataset
    monkeypatch.setattr(datamodule, "load_dataset", lambda *args: (calls.append(args), load(*args))[1])
    data, model = digits(validation=300), Recorder()
    run = trainer(tmp_path, max_epochs=1, enable_checkpointing=False)
    run.fit(model, data)
    run.validate(model, data, verbose=False)
    run.test(model, data, verbose=False)
    assert len(calls) == 1


def test_images_lie_in_memory_once():
    data = ImageData("digits", batch_size=8)
    data.setup()
    for part, loader in (("train", data.train_dataloader()), ("test", data.test_dataloader())):
        assert loader.split.images.data_ptr() == getattr(data.dataset, part).images.data_ptr()
        assert loader.split.images.is_contiguous(memory_format=torch.channels_last)


def test_no_validation_split(tmp_path):
    data, model = digits(), Recorder()
    run = trainer(tmp_path, max_epochs=1, enable_checkpointing=False)
    run.fit(model, data)
    assert model.seen["validate"] == []
    with pytest.raises(UserError, match="no validation split"):
        run.validate(model, data)


def test_validation_images_do_not_depend_on_the_seed():
    held_out = []
    for seed in (0, 1):
        data = digits(validation=300, seed=seed)
        data.setup()
        held_out.append(next(iter(data.val_dataloader())).images)
    assert torch.equal(*held_out)


def test_order_follows_the_seed():
    orders = []
    for seed in (0, 0, 1):
        data = digits(seed=seed)
        data.setup()
        orders.append(next(iter(data.train_dataloader())).indices.tolist())
    assert orders[0] == orders[1] != orders[2]


def test_checkpoints_hold_plain_hyper_parameters(tmp_path):
    data = ImageData("digits", root=tmp_path, batch_size=256, image_size=8)  # type: ignore[arg-type]
    run = trainer(tmp_path, max_epochs=1)
    run.fit(Recorder(), data)
    checkpoint = torch.load(run.checkpoint_callback.best_model_path, weights_only=True)
    assert checkpoint["datamodule_hyper_parameters"] == {
        "source": "digits",
        "root": str(tmp_path),
        "batch_size": 256,
        "validation": 0,
        "download": False,
        "image_size": 8,
        "seed": 0,
    }


def test_small_data_set_for_a_large_batch():
    data = digits(batch_size=2000)
    data.setup()
    with pytest.raises(UserError, match="train split: 1437 images are fewer than one batch"):
        data.train_dataloader()


def test_setup_under_a_trainer_does_not_download(monkeypatch):
    allowed = []
    monkeypatch.setattr(datamodule, "load_dataset", lambda s, r, download, i: allowed.append(download))
    for data, under_trainer in ((ImageData(download=True), True), (ImageData(download=True), False)):
        data.trainer = object() if under_trainer else None  # type: ignore[assignment]
        with pytest.raises(AttributeError):
            data.setup()  # the stand-in gives no data set
    assert allowed == [False, True]


def test_each_loader_has_the_images_of_its_split():
    data = ImageData("digits", batch_size=20, validation=100)
    data.setup("fit")
    splits = {"train": data.train_dataloader(), "validation": data.val_dataloader(), "test": data.test_dataloader()}
    splits["all of test"] = data.predict_dataloader()
    for name, loader in splits.items():
        assert torch.equal(loader.split.labels, data.splits[name.removeprefix("all of ")].labels), name
    assert not torch.equal(data.splits["validation"].labels[:100], data.splits["test"].labels[:100])
    assert (splits["test"].drop_last, splits["all of test"].drop_last) == (True, False)
