import itertools
import json
from functools import partial
from types import SimpleNamespace

import pytest
import torch

from dim.data import ImageData
from dim.data.loader import normalise
from dim.errors import UserError
from dim.models import AdversarialAutoencoder, Autoencoder, BiGAN, DeepInfoMax, Supervised
from dim.models.base import Step


def attach(model, folder, step=0, every=50):
    loop = SimpleNamespace(epoch_loop=SimpleNamespace(total_batch_idx=step))
    about = {"default_root_dir": str(folder), "is_global_zero": True, "current_epoch": 2}
    model._trainer = SimpleNamespace(fit_loop=loop, log_every_n_steps=every, global_step=step, **about)
    model._fabric = None
    return model


def test_a_loss_that_is_not_finite_stops_training_and_leaves_its_images(batch, tmp_path, monkeypatch):
    model = attach(Supervised(), tmp_path, step=17)
    monkeypatch.setattr(model, "losses", lambda batch: Step({"other": torch.tensor(float("inf"))}, {}))
    with pytest.raises(UserError, match="the loss 'other' is not finite after 17 batches, or too large for Adam"):
        model.training_step(batch, 17)
    kept = json.loads((tmp_path / "not-finite.json").read_text())
    assert kept == {"batch": 17, "epoch": 2, "loss": "other", "indices": batch.indices.tolist()}


@pytest.mark.parametrize(("warmup", "said"), [(0, ""), (29, ""), (30, "warm-up takes 30 steps and the run has 30")])
def test_a_warm_up_that_takes_the_whole_run_is_said(warmup, said, tmp_path, capsys):
    model = attach(Supervised(warmup_steps=warmup), tmp_path)
    model.trainer.estimated_stepping_batches = 30
    model.on_train_start()
    printed = capsys.readouterr().err
    assert said in printed
    assert bool(said) == bool(printed)


def test_spoilt_weights_are_not_saved(tmp_path):
    model = attach(Autoencoder(), tmp_path)
    model.on_save_checkpoint({"state_dict": model.state_dict(), "callbacks": {}})
    with torch.no_grad():
        model.encoder.y.bias[3] = torch.nan
    with pytest.raises(UserError, match=r"made encoder\.y\.bias not finite"):
        model.on_save_checkpoint({"state_dict": model.state_dict()})


@pytest.mark.parametrize(("every", "shown"), [(4, {0, 3, 7, 9}), (0, {0, 9}), (1, set(range(10)))])
def test_steps_are_logged_where_anyone_sees_it(every, shown, batch, tmp_path, monkeypatch):
    model = Supervised()
    logged = set()
    for step in range(10):
        attach(model, tmp_path, step, every)
        model.trainer.num_training_batches = 10
        monkeypatch.setattr(model, "_log", lambda *_, step=step: logged.add(step))
        model.training_step(batch, step)
    assert logged == shown


def test_off_the_cpu_a_bad_step_is_found_before_a_checkpoint_is_written(tmp_path):
    model = attach(Supervised(), tmp_path, step=12)
    # As on a device whose numbers were not looked at yet.
    model._guard.note(12, {"loss": torch.tensor(torch.nan)}, torch.tensor([4]))
    model._guard.note(13, {"loss": torch.tensor(1.0)}, torch.tensor([6]))
    with pytest.raises(UserError, match="'loss' is not finite after 12 batches"):
        model.on_save_checkpoint({})
    assert json.loads((tmp_path / "not-finite.json").read_text())["indices"] == [4]


def test_only_deep_infomax_takes_a_map_of_global_vectors():
    with pytest.raises(UserError, match="which only DeepInfoMax takes"):
        Supervised(encoder="folded32_globals")


def test_training_takes_the_sum_of_all_losses_and_new_numbers_at_every_step(batch, tmp_path, monkeypatch):
    model = attach(Autoencoder(kl_weight=1.0, code_size=16), tmp_path)
    model.trainer.num_training_batches = 9
    monkeypatch.setattr(model, "_log", lambda *_: None)
    model.reseed(2, 1)
    expected = sum(model.losses(batch).losses.values())
    torch.testing.assert_close(model.training_step(batch, 1), expected)
    assert model.training_step(batch, 2).item() != expected.item()


def test_evaluations_draw_the_same_numbers_after_every_epoch(batch, tmp_path, monkeypatch):
    model = attach(Autoencoder(kl_weight=1.0, code_size=16).eval(), tmp_path)
    totals = []
    monkeypatch.setattr(model, "_log", lambda stage, total, *_, **__: totals.append(total.item()))
    for epoch, index in ((0, 0), (3, 0), (3, 1)):
        model.trainer.current_epoch = epoch
        model.validation_step(batch, index)
    assert totals[0] == totals[1] != totals[2]


def test_reseeding_repeats_the_step_s_randomness(monkeypatch):
    model = Supervised()

    def drawn():
        return model.random(lambda rows, g: torch.rand(rows, 2, generator=g), 3), torch.rand(2)

    model.reseed(1, 2)
    first = drawn()
    model.reseed(1, 3)
    other = drawn()
    model.reseed(1, 2)
    again = drawn()
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(first, other, strict=True))
    monkeypatch.setenv("PL_GLOBAL_SEED", "5")
    model.reseed(1, 2)
    assert not torch.equal(drawn()[0], first[0])


def test_warm_up_then_cosine_decay():
    model = Supervised(learning_rate=1.0, schedule="cosine", warmup_steps=4)
    model._trainer = SimpleNamespace(estimated_stepping_batches=12, gradient_clip_val=None)
    configured = model.configure_optimizers()
    optimiser, schedule = configured["optimizer"], configured["lr_scheduler"]["scheduler"]
    rates = []
    for _ in range(12):
        rates.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        schedule.step()
    assert rates[:5] == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0])
    assert rates[8] == pytest.approx(0.5)
    assert optimiser.param_groups[0]["lr"] == pytest.approx(0.0, abs=1e-9)
    assert all(a > b for a, b in itertools.pairwise(rates[4:]))


def test_whitening_looks_at_the_training_split_alone(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr("dim.models.base.whiten", lambda convolution, images: seen.append(images))
    data = ImageData("digits", validation=100)
    data.setup("fit")
    model = attach(Supervised(whitening=True), tmp_path)
    vars(model.trainer).update(datamodule=data, num_devices=1, num_nodes=1, world_size=1)
    model.setup("fit")
    (images,) = seen
    assert torch.equal(images, normalise(data.splits["train"].images))
    assert len(images) == len(data.dataset.train.images) - 100


def begun(model, folder, **about):
    data = ImageData("digits", validation=100)
    data.setup("fit")
    attach(model, folder)
    vars(model.trainer).update(datamodule=data, num_devices=1, num_nodes=1, world_size=1, ckpt_path=None, **about)
    model.setup("fit")
    return {name: value.clone() for name, value in model.encoder.state_dict().items()}


def test_filters_that_are_no_longer_as_drawn_are_not_whitened(tmp_path):
    model = Supervised(whitening=True)
    drawn = model.encoder.convs[0][0].weight.detach().clone()
    first = begun(model, tmp_path)
    assert not torch.equal(first["convs.0.0.weight"], drawn)
    with torch.no_grad():
        model.encoder.convs[0][0].weight.mul_(1.01)  # as training does
    again = begun(model, tmp_path)
    torch.testing.assert_close(again["convs.0.0.weight"], first["convs.0.0.weight"] * 1.01)
    loaded = Supervised(whitening=True)
    loaded.encoder.load_state_dict(Supervised().encoder.state_dict())
    before = loaded.encoder.convs[0][0].weight.detach().clone()
    assert torch.equal(begun(loaded, tmp_path)["convs.0.0.weight"], before)


def test_a_training_starts_from_another_encoder_once(tmp_path):
    donor = Supervised(code_size=16)
    path = tmp_path / "donor.ckpt"
    torch.save({"state_dict": donor.state_dict(), "hyper_parameters": {"encoder": "conv32", "code_size": 16}}, path)
    model = Supervised(code_size=16, whitening=True, init_from=str(path))
    torch.testing.assert_close(begun(model, tmp_path), dict(donor.encoder.state_dict()))
    with torch.no_grad():
        model.encoder.y.weight.zero_()
    assert not begun(model, tmp_path)["y.weight"].any()
    with pytest.raises(UserError, match="its encoder is not 'conv32' with a code of 8"):
        begun(Supervised(code_size=8, init_from=str(path)), tmp_path)
    resumed = Supervised(code_size=8, init_from=str(tmp_path / "gone.ckpt"))
    resumed.started = True
    begun(resumed, tmp_path)


def test_hyper_parameters_are_plain_and_complete():
    hparams = dict(Supervised(num_classes=3, learning_rate=0.5).hparams)
    assert hparams["num_classes"] == 3
    assert hparams["learning_rate"] == 0.5
    assert hparams["encoder"] == "conv32"
    assert all(isinstance(v, int | float | str | tuple | bool | None) for v in hparams.values())


@pytest.mark.parametrize(("decay", "kept"), [(0.0, 1.0), (0.5, 0.95)])
def test_weight_decay_shrinks_matrices_and_filters_alone(decay, kept, tmp_path):
    model = attach(Supervised(learning_rate=0.1, weight_decay=decay), tmp_path)
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    optimizer = model.configure_optimizers()["optimizer"]
    # Without decay one group, so that checkpoints that hold one can be resumed.
    assert len(optimizer.param_groups) == (2 if decay else 1)
    for weight in model.parameters():
        weight.grad = torch.zeros_like(weight)
    optimizer.step()
    for name, weight in model.named_parameters():
        torch.testing.assert_close(weight.detach(), before[name] * (kept if weight.ndim > 1 else 1.0))
    assert {before[name].ndim for name in before} == {1, 2, 4}


@pytest.mark.parametrize("decay", [0.0, 0.5])
def test_all_parameters_move_with_the_rate_and_betas_asked_for(decay, tmp_path):
    model = attach(Supervised(learning_rate=0.1, betas=(0.3, 0.9), weight_decay=decay), tmp_path)
    for group in model.configure_optimizers()["optimizer"].param_groups:
        assert (group["lr"], *group["betas"]) == (0.1, 0.3, 0.9)


@pytest.mark.parametrize("decay", [-0.1, 10.0, float("nan")])
def test_a_decay_that_is_negative_or_takes_off_everything_is_refused(decay):
    with pytest.raises(UserError, match="weight_decay is"):
        Supervised(learning_rate=0.1, weight_decay=decay)


@pytest.mark.parametrize("model", [BiGAN, AdversarialAutoencoder, partial(DeepInfoMax, units=32)])
def test_the_gradient_penalty_is_added_with_its_weight(model, batch):
    values = []
    for weight in (0.0, 100.0, 200.0):
        torch.manual_seed(0)
        made = model(code_size=16, gradient_penalty=weight)
        made.reseed(0, 0)
        values.append(made.losses(batch).losses["discriminator"].item())
    none, once, twice = values
    assert once > none
    assert twice - none == pytest.approx(2 * (once - none), rel=1e-3)
