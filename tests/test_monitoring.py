"""What a run shows in TensorBoard, on real digits."""

import copy
from types import SimpleNamespace

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from dim import fit
from dim.data import ImageData
from dim.errors import UserError
from dim.models import Autoencoder
from dim.monitoring import OnlineProbe, Pictures, VitalSigns

RUN = "digits/run"
SMALL = "--model DeepInfoMax --model.units 32 --model.code_size 16 --model.width 32 --model.learning_rate 1e-3"


def train(folder, *options, epochs=2):
    data = "--data ImageData --data.source digits --data.batch_size 64 --trainer.log_every_n_steps 10"
    where = f"--trainer.accelerator cpu --trainer.max_epochs {epochs} --runs {folder}"
    fit.run("fit", [*f"{data} {where} {SMALL}".split(), *options])
    return torch.load(folder / RUN / "checkpoints" / "last.ckpt", weights_only=True)


@pytest.fixture(scope="module")
def watched(tmp_path_factory):
    folder = tmp_path_factory.mktemp("watched")
    return folder / RUN, train(folder)


@pytest.fixture(scope="module")
def board(watched):
    events = EventAccumulator(str(watched[0] / "logs"), {"tensors": 0, "scalars": 0, "histograms": 0})
    events.Reload()
    return events


def test_scalars_tell_of_losses_information_probes_and_speed(board):
    scalars = set(board.Tags()["scalars"])
    assert {"train/loss", "train/local", "train/local_nats", "train/prior"} <= scalars
    assert {"probe/conv", "probe/fc", "probe/y", "code/effective_rank"} <= scalars
    assert {"watch/gradient_norm", "watch/learning_rate", "watch/images_per_second"} <= scalars
    assert board.Scalars("watch/learning_rate")[0].value == pytest.approx(1e-3)
    assert all(point.value > 0 for point in board.Scalars("watch/images_per_second"))
    assert all(1 <= point.value <= 16 for point in board.Scalars("code/effective_rank"))


def test_the_probe_learns_the_digits(board):
    for layer in ("conv", "fc", "y"):
        first, *_, last = [point.value for point in board.Scalars(f"probe/{layer}")]
        assert last > max(0.5, first), layer


def test_codes_config_and_hyper_parameters_are_there(board, watched):
    assert board.Tags()["histograms"] == ["code/y"]
    assert "learning_rate: 0.001" in board.Tensors("config/text_summary")[0].tensor_proto.string_val[0].decode()
    assert list((watched[0] / "logs").glob("**/sprite.png"))
    summaries = board.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    assert b"learning_rate" in summaries
    assert "final/probe/y" in board.Tags()["scalars"]


def test_the_model_does_not_feel_that_it_is_watched(watched, tmp_path):
    alone = train(tmp_path, "--probe.layers", "[]", "--codes.images", "0", "--trainer.logger", "false")
    assert all(torch.equal(value, watched[1]["state_dict"][name]) for name, value in alone["state_dict"].items())
    assert "seen" not in str(alone["callbacks"])


def test_a_probe_on_a_layer_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(UserError, match="no layer 'conv9'; it has local, conv, fc, y"):
        train(tmp_path, "--probe.layers", "[conv9]")


@pytest.mark.parametrize("options", [["--trainer.accumulate_grad_batches", "2"], ["--trainer.precision", "64-true"]])
def test_other_ways_to_train_are_watched_too(tmp_path, options):
    limits = [
        "--data.batch_size",
        "4",
        "--codes.images",
        "20",
        "--trainer.limit_train_batches",
        "12",
        "--trainer.log_every_n_steps",
        "2",
    ]
    train(tmp_path, "--model.encoder", "folded32_globals", "--model.gamma", "0", *limits, *options, epochs=1)
    events = EventAccumulator(str(tmp_path / RUN / "logs"))
    events.Reload()
    steps = {tag: [point.step for point in events.Scalars(tag)] for tag in ("probe/conv", "watch/images_per_second")}
    assert all(len(found) == len(set(found)) > 1 for found in steps.values()), steps
    assert "probe/fc" not in events.Tags()["scalars"]


@pytest.mark.parametrize(("every", "looked"), [(1, [0, 1, 2, 3, 4, 5, 6]), (3, [2, 5])])
def test_the_probe_looks_at_one_step_in_so_many(every, looked, tmp_path, monkeypatch):
    steps, learn = [], OnlineProbe._learn
    monkeypatch.setattr(OnlineProbe, "_learn", lambda self, *batch: steps.append(batch[1]) or learn(self, *batch))
    batches, look = [], OnlineProbe.on_train_batch_end

    def ending(self, trainer, module, outputs, batch, *rest):
        batches.append(batch)
        look(self, trainer, module, outputs, batch, *rest)

    monkeypatch.setattr(OnlineProbe, "on_train_batch_end", ending)
    limits = ["--data.batch_size", "4", "--codes.images", "0", "--trainer.limit_train_batches", "7"]
    train(tmp_path, "--probe.every_n_steps", str(every), "--probe.layers", "[y]", *limits, epochs=1)
    assert [number for number, batch in enumerate(batches) if any(batch is seen for seen in steps)] == looked


def test_a_step_is_softmax_regression_on_standardised_features():
    torch.manual_seed(0)
    encoder = torch.nn.Module()
    encoder.shapes, encoder.layers = lambda: {"y": (3,)}, ("y",)
    module = fit.Model.__new__(fit.Model)
    torch.nn.Module.__init__(module)
    module.encoder = encoder
    device = SimpleNamespace(root_device=torch.device("cpu"))
    trainer = SimpleNamespace(datamodule=SimpleNamespace(num_classes=4), strategy=device)
    probe = OnlineProbe(("y",), learning_rate=0.1)
    probe.setup(trainer, module, "fit")
    features, labels = torch.randn(8, 3), torch.randint(4, (8,))
    probe._learn({"y": features}, SimpleNamespace(labels=labels))
    standard = ((features - features.mean(0)) / (features.var(0, correction=0) + 1e-5).sqrt()).double()
    # Softmax at zero weights is uniform; Adam's first step moves by the rate against the gradient's sign.
    gradient = (torch.full((8, 4), 0.25).double() - torch.nn.functional.one_hot(labels, 4)).T @ standard / 8
    assert torch.allclose(probe.heads["y"][1].weight.double(), -0.1 * gradient.sign(), atol=1e-5)
    state = copy.deepcopy(probe.state_dict())
    probe._learn({"y": features}, SimpleNamespace(labels=labels))
    again = OnlineProbe(("y",), learning_rate=0.1)
    again.setup(trainer, module, "fit")
    again.load_state_dict(state)
    again._learn({"y": features}, SimpleNamespace(labels=labels))
    assert torch.equal(again.heads["y"][1].weight, probe.heads["y"][1].weight)
    assert again._seen == probe._seen == 16


def test_a_model_is_as_it_was_once_its_pictures_are_drawn():
    data = ImageData("digits")
    data.setup()
    model = Autoencoder(code_size=16)
    before = copy.deepcopy(model.state_dict())
    where = {"current_epoch": 0, "max_epochs": 2, "global_step": 1, "max_steps": -1, "is_global_zero": False}
    drawn = []
    model.pictures = lambda images: drawn.append(Autoencoder.pictures(model, images)) or drawn[0]
    Pictures(images=4).on_train_epoch_end(SimpleNamespace(datamodule=data, **where), model)
    assert drawn[0]["reconstructions"].shape == (4, 3, 32, 32)
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_the_gradient_norm_is_of_all_parameters_together():
    module, logged = torch.nn.Linear(1, 1), {}
    module.weight.grad, module.bias.grad = torch.full((1, 1), 3.0), torch.full((1,), -4.0)
    module.log = lambda name, value: logged.update({name: float(value)})
    about = {"loggers": [None], "global_step": 49, "log_every_n_steps": 50, "precision_plugin": None}
    optimiser = torch.optim.SGD(module.parameters(), 0.25)
    VitalSigns().on_before_optimizer_step(SimpleNamespace(**about), module, optimiser)
    assert logged == {"watch/gradient_norm": 5.0, "watch/learning_rate": 0.25}
