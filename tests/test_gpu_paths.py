"""What a GPU needs of a step, tested without one: no synchronisation, float32 where it counts, whole graphs."""

import contextlib
from types import SimpleNamespace

import pytest
import torch
from pytorch_lightning.trainer.connectors.logger_connector import result
from torch import Tensor, nn

from dim import fit, objectives
from dim.callbacks import Bar
from dim.contrast import contrast
from dim.data.loader import Batch, normalise
from dim.models import AdversarialAutoencoder, Autoencoder, BiGAN, DeepInfoMax, NoiseAsTargets, Supervised
from dim.networks.critics import LocalConcatCritic, LocalDotCritic, _DotCritic
from dim.networks.encoders import build_encoder

WAITING = ("item", "cpu", "tolist", "numpy", "nonzero", "__bool__", "__float__", "__int__", "__index__")
"""Methods of a tensor that wait for its device, and indexing by a mask (nonzero)."""
MODELS = {
    "local": lambda: DeepInfoMax(units=16),
    "local dv": lambda: DeepInfoMax(units=16, local_objective="dv", prior="gaussian"),
    "drawn": lambda: DeepInfoMax(local_critic="concat", local_objective="jsd", width=16, negatives=1),
    "global and table 5": lambda: DeepInfoMax(1.0, 0.5, units=16, coordinates="relative", occlusion=True),
    "views": lambda: DeepInfoMax(units=16, views=True),
    "ghost": lambda: DeepInfoMax(units=16, ghost_batch=4),
    "autoencoder": Autoencoder,
    "vae": lambda: Autoencoder(kl_weight=1.0),
    "aae": AdversarialAutoencoder,
    "bigan": BiGAN,
    "nat": lambda: NoiseAsTargets(period=2),
    "supervised": Supervised,
}


class WaitingError(AssertionError):
    pass


@contextlib.contextmanager
def no_waiting(monkeypatch):
    def refuse(name):
        def method(self, *args, **options):
            raise WaitingError(f"Tensor.{name} waits for the device")

        return method

    with monkeypatch.context() as patch:
        for name in WAITING:
            patch.setattr(Tensor, name, refuse(name))
        yield


@pytest.fixture
def batch():
    images = torch.randint(0, 256, (8, 3, 32, 32), dtype=torch.uint8)
    return Batch(normalise(images), torch.arange(8) % 4, torch.arange(8))


def test_waiting_is_noticed(monkeypatch):
    value = torch.ones(2)
    for wait in (
        lambda: value.sum().item(),
        lambda: float(value.sum()),
        lambda: bool(value.all()),
        lambda: value.tolist(),
    ):
        with no_waiting(monkeypatch), pytest.raises(WaitingError):
            wait()


@pytest.mark.parametrize("name", MODELS)
def test_a_step_that_logs_nothing_does_not_wait_for_the_device(name, batch, monkeypatch):
    model = MODELS[name]()
    if name == "nat":
        model.make_targets(8)
    loop = SimpleNamespace(epoch_loop=SimpleNamespace(total_batch_idx=13))
    # NAT re-assigns in even epochs, which the Hungarian method does on the CPU.
    counts = {"current_epoch": 1, "global_step": 13, "num_training_batches": 100}
    model._trainer = SimpleNamespace(fit_loop=loop, log_every_n_steps=50, **counts)
    model._fabric = None
    monkeypatch.setattr(model, "log", lambda *args, **options: None)
    monkeypatch.setattr(model, "log_dict", lambda *args, **options: None)
    monkeypatch.setattr("dim.models.base.waits", lambda tensor: True)
    optimiser = torch.optim.Adam(model.parameters(), fused=True)
    with no_waiting(monkeypatch):
        model.training_step(batch, 3).backward()
        optimiser.step()
    assert model._guard._unseen  # the guard has put its question off


@pytest.mark.parametrize("critic", [LocalDotCritic, LocalConcatCritic])
def test_under_bfloat16_products_are_half_and_log_sum_exps_float32(critic, batch, monkeypatch):
    encoder = build_encoder("conv32", 64)
    part = critic(encoder.shapes(), 64, 16)
    kinds = []
    monkeypatch.setattr(objectives.infonce, "_value", spy(objectives.infonce._value, kinds))
    products = []
    product = _DotCritic._table
    monkeypatch.setattr(_DotCritic, "_table", lambda *inputs: products.append(out := product(*inputs)) or out)
    with torch.autocast("cpu", torch.bfloat16):
        outputs = encoder(batch.images)
        scores = contrast(part, outputs["y"], outputs["local"])
        loss = -objectives.infonce(*scores)
    assert outputs["y"].dtype == torch.bfloat16
    # The dot critic adds to half-precision products what all keys share (`LocalDotCritic`).
    assert (products or [scores.negative])[0].dtype == torch.bfloat16
    assert len(products) == (critic is LocalDotCritic)
    assert kinds == [torch.float32]
    assert loss.dtype == torch.float32
    loss.backward()
    exact = -objectives.infonce(*contrast(part, (wide := encoder(batch.images))["y"], wide["local"]))
    torch.testing.assert_close(loss, exact, atol=0.1, rtol=0.05)


def spy(function, kinds):
    def called(positive, negative):
        kinds.append(negative.dtype)
        return function(positive, negative)

    return called


def test_maps_stay_channels_last_through_encoder_and_decoder(batch):
    model = Autoencoder()
    outputs = model.encoder(batch.images)
    maps = [
        outputs["local"],
        outputs["conv"],
        model.decoder.stages(model.decoder.first(outputs["y"]).unflatten(1, (-1, 4, 4))),
    ]
    for each in maps:
        assert each.is_contiguous(memory_format=torch.channels_last)
    weights = [layer.weight for layer in model.modules() if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d)]
    assert all(weight.is_contiguous(memory_format=torch.channels_last) for weight in weights)


def test_the_optimiser_is_fused():
    model = Supervised()
    model._trainer = SimpleNamespace(gradient_clip_val=None)
    assert model.configure_optimizers()["optimizer"].param_groups[0]["fused"]


@pytest.mark.parametrize("waits", [False, True])
def test_lightning_asks_no_gpu_for_what_its_bar_shows(waits, tmp_path, monkeypatch):
    for module in ("models.base", "models.supervised", "monitoring"):
        monkeypatch.setattr(f"dim.{module}.waits", lambda tensor: waits)
    asked, bars, convert = [], [], result.convert_tensors_to_scalars
    monkeypatch.setattr(result, "convert_tensors_to_scalars", lambda value: asked.append(1) or convert(value))
    shown = Bar.get_metrics
    limits = "--trainer.max_epochs 1 --trainer.limit_train_batches 8 --trainer.log_every_n_steps 4"
    words = "--model Supervised --data ImageData --data.source digits --data.batch_size 32 --trainer.accelerator cpu"
    monkeypatch.setattr(Bar, "get_metrics", lambda *inputs: bars.append(shown(*inputs)) or bars[-1])
    monkeypatch.setattr(fit.Cli, "_progress", lambda self, trainer: [Bar()])
    fit.run("fit", [*words.split(), *limits.split(), "--runs", str(tmp_path)])
    assert bool(asked) is not waits
    assert "train/loss" in bars[-1]
