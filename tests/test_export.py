import json

import pytest
import torch
import yaml
from releases import CONFIG, a_release, a_run
from torch.utils.tensorboard import SummaryWriter

from dim import checkpoints, cli, export, release
from dim.errors import UserError
from dim.files import sha256
from dim.networks.encoders import build_encoder


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return a_run(tmp_path_factory.mktemp("runs") / "run")


def weights(run):
    return checkpoints.load_encoder(run).state_dict()


def test_the_encoder_is_that_of_the_run_bit_for_bit(run, tmp_path):
    path = export.export(str(run), tmp_path / "name.safetensors")
    stored = release.read(path)[1]
    expected = weights(run)
    assert set(stored) == set(expected)
    assert all(torch.equal(stored[name], expected[name]) for name in expected)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["name.json", "name.md", "name.safetensors"]


def test_half_the_size_is_rounded_but_for_vectors(run, tmp_path):
    whole = export.export(str(run), tmp_path / "whole.safetensors")
    half = export.export(str(run), tmp_path / "half.safetensors", half=True)
    assert half.stat().st_size < 0.51 * whole.stat().st_size
    loaded, expected = release.load_pretrained(half).state_dict(), weights(run)
    for name, value in expected.items():
        rounded = value.half().to(value.dtype) if value.ndim > 1 else value
        assert torch.equal(loaded[name], rounded), name
    assert release.read(half)[0]["precision"] == "float16"
    assert "rounded to float16" in half.with_suffix(".md").read_text()
    # What is looked at when it is loaded elsewhere is of the rounded weights.
    references = [release.read_record(path)["reference"] for path in (whole, half)]
    assert references[1] == release.reference(release.load_pretrained(half)) != references[0]


def test_the_same_run_gives_the_same_bytes(run, tmp_path):
    files = [export.export(str(run), tmp_path / f"{n}.safetensors") for n in range(3)]
    assert len({sha256(file) for file in files}) == 1


def test_facts_are_the_checkpoint_s(run, tmp_path):
    path = export.export(str(run), tmp_path / "name.safetensors", licence="CC0-1.0")
    facts = release.read(path)[0]
    config = yaml.safe_load(facts.pop("training_config"))
    assert facts == {
        "format_version": 1,
        "encoder": "conv32",
        "code_size": 64,
        "image_size": 32,
        "scaling": "images in [-1, 1]",
        "name": "dim_local_infonce",
        "model": "DeepInfoMax",
        "data": "cifar10",
        "epoch": 1,
        "global_step": 1562,
        "version": "0.1.0",
        "checkpoint_sha256": sha256(run / "checkpoints" / "last.ckpt"),
        "precision": "float32",
        "licence": "CC0-1.0",
    }
    assert config["model"] == CONFIG["model"]
    assert config["data"]["init_args"] == {**CONFIG["data"]["init_args"], "root": "data"}
    for file in tmp_path.iterdir():
        assert b"private" not in file.read_bytes()  # places of the machine are not published


def test_what_a_checkpoint_does_not_say_is_left_out(run, tmp_path):
    content = checkpoints.read_checkpoint(run)
    kept = {name: content[name] for name in ("state_dict", "hyper_parameters")}
    torch.save(kept, tmp_path / "bare.ckpt")
    path = export.export(str(tmp_path / "bare.ckpt"))
    assert path == tmp_path / "encoder.safetensors"
    assert not {"name", "model", "data", "epoch", "training_config", "version"} & set(release.read(path)[0])
    card = path.with_suffix(".md").read_text()
    assert "None" not in card
    assert not [word for word in ("| data", "| trained", "| cost", "| command", "## Training") if word in card]


def test_the_config_of_the_card_trains(run, tmp_path, capsys, monkeypatch):
    path = export.export(str(run), tmp_path / "name.safetensors")
    card = path.with_suffix(".md").read_text()
    (tmp_path / "config.yaml").write_text(card.partition("```yaml\n")[2].partition("```")[0])
    monkeypatch.setattr("sys.argv", ["dim"])
    with pytest.raises(SystemExit) as stopped:
        cli.main(["fit", "--config", str(tmp_path / "config.yaml"), "--data.root", "DATA", "--print_config"])
    assert stopped.value.code == 0
    assert yaml.safe_load(capsys.readouterr().out)["data"]["init_args"]["root"] == "DATA"


def test_a_note_is_on_the_card(run, tmp_path):
    path = export.export(str(run), tmp_path / "noted.safetensors", note="trained in two pieces")
    assert release.read_record(path)["note"] == "trained in two pieces"
    assert "| note | trained in two pieces |" in path.with_suffix(".md").read_text()
    plain = export.export(str(run), tmp_path / "plain.safetensors")
    assert "note" not in release.read_record(plain)
    assert plain.read_bytes() == path.read_bytes()


def test_by_default_it_lies_with_the_run(tmp_path):
    path = export.export(str(a_run(tmp_path / "run")))
    assert path == tmp_path / "run" / "dim_local_infonce_cifar10.safetensors"


def test_the_cost_is_that_of_the_log_up_to_the_checkpoint(tmp_path, monkeypatch):
    for began, entries in ((100.0, [(700, 160.0)]), (1000.0, [(800, 1010.0), (1562, 1090.0), (2000, 5000.0)])):
        monkeypatch.setattr("time.time", lambda began=began: began)  # a log begins with an entry without a step
        with SummaryWriter(str(tmp_path / "logs"), filename_suffix=f".{began}") as board:
            for step, time in entries:
                board.add_scalar("train/loss", 0.0, step, walltime=time)
            board.add_scalar("final/loss", 0.0, 0, walltime=9000.0)  # the hyper-parameters, when training ends
    assert export.cost(tmp_path, 1562) == {"sessions": 2, "seconds": 150.0}
    assert export.cost(tmp_path / "nowhere", 1562) == {}


def test_machines_are_those_of_a_reproduction(tmp_path):
    session = {"machine": {"processor": "A", "cores": 2}}
    (tmp_path / "reproduction.json").write_text(json.dumps({"schema_version": 1, "sessions": [session, session]}))
    assert export.cost(tmp_path, 1) == {"machines": ["A, 2 cores"]}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "nowhere does not exist"),
        (["."], "holds no checkpoint"),
        (["run", "--output", "name.pt"], "name.pt must end in .safetensors"),
        (["run", "--output", "used.safetensors"], "used.json exists: replace it with --overwrite true"),
        (["done/dim_local_infonce_cifar10.safetensors"], "is an exported encoder: give the run that it comes from"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(arguments, message, tmp_path, monkeypatch):
    a_run(tmp_path / "run")
    a_release(tmp_path / "done")
    (tmp_path / "used.json").write_text("mine")
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserError, match=message) as error:
        export.run(arguments)
    assert "\n" not in str(error.value)
    assert sorted(tmp_path.rglob("*")) == before
    assert (tmp_path / "used.json").read_text() == "mine"


def test_an_export_is_replaced_when_asked(run, tmp_path):
    options = [str(run), "--output", str(tmp_path / "name.safetensors")]
    export.run(options)
    export.run([*options, "--half", "true", "--overwrite", "true"])
    assert release.read(tmp_path / "name.safetensors")[0]["precision"] == "float16"


@pytest.mark.parametrize(
    ("value", "half", "message"),
    [(1e5, True, "exceeds float16"), (float("nan"), False, "the encoder has diverged"), (1e5, False, None)],
)
def test_weights_that_cannot_be_published_are_refused(value, half, message, tmp_path):
    state = {f"encoder.{name}": tensor for name, tensor in build_encoder("conv32", 64).state_dict().items()}
    state["encoder.y.weight"][0, 0] = value
    run = a_run(tmp_path / "run", state_dict=state)
    if message is None:
        assert export.export(str(run), half=half).exists()
        return
    with pytest.raises(UserError, match=f"y.weight of .* {message}"):
        export.export(str(run), half=half)
