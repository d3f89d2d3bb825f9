import pickle
import subprocess
import sys

import pytest
import torch

import dim
from dim import checkpoints
from dim.errors import UserError
from dim.networks.encoders import build_encoder


def a_checkpoint(**changes):
    torch.manual_seed(1)
    encoder = build_encoder("conv32", 8)
    state = {f"encoder.{name}": value for name, value in encoder.state_dict().items()}
    content = {"state_dict": state, "hyper_parameters": {"encoder": "conv32", "code_size": 8}, "epoch": 3}
    return encoder, {**content, **changes}


@pytest.fixture
def run(tmp_path):
    encoder, content = a_checkpoint()
    path = tmp_path / "run" / "checkpoints" / "last.ckpt"
    checkpoints.AtomicCheckpointIO().save_checkpoint(content, path)
    return encoder, path


def test_encoder_comes_back_from_a_run_and_from_a_file(run):
    encoder, path = run
    for place in (path, path.parent, path.parent.parent, str(path)):
        loaded = dim.load_encoder(place)
        assert not loaded.training
        for name, value in encoder.state_dict().items():
            assert torch.equal(loaded.state_dict()[name], value), name


@pytest.mark.parametrize("end", ["within an epoch", "after the training"])
def test_the_epoch_is_the_last_one_that_was_begun(run, tmp_path, end):
    # Lightning's own number is 2 in both: an epoch that has begun, and one that never will.
    counts = {"ready": 3 if end == "within an epoch" else 2, "processed": 2}
    _, content = a_checkpoint(epoch=2, loops={"fit_loop": {"epoch_progress": {"current": counts}}})
    checkpoints.AtomicCheckpointIO().save_checkpoint(content, tmp_path / "one.ckpt")
    assert checkpoints.read_checkpoint(tmp_path / "one.ckpt")["epoch"] == counts["ready"] - 1
    assert checkpoints.read_checkpoint(run[1])["epoch"] == 3  # where nothing is counted


def test_saving_leaves_one_whole_file(run):
    _, path = run
    assert [p.name for p in path.parent.iterdir()] == ["last.ckpt"]


def test_a_failed_save_keeps_the_earlier_checkpoint(run, monkeypatch):
    _, path = run
    before = path.read_bytes()

    def full(content, file):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(UserError, match="No space left on device"):
        checkpoints.AtomicCheckpointIO().save_checkpoint({}, path)
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == ["last.ckpt"]


def test_a_disk_that_fills_up_within_a_save_is_one_line(run):
    # torch's own writer turns the system's error into one of its own.
    _, path = run
    before = path.read_bytes()
    code = (
        "import resource, signal, sys, torch; from dim.checkpoints import AtomicCheckpointIO\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (9999, 9999))\n"
        "try: AtomicCheckpointIO().save_checkpoint({'a': torch.zeros(10**6)}, sys.argv[1])\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"UserError cannot write the checkpoint {path} (File too large)")
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == ["last.ckpt"]


def test_loading_is_strict(tmp_path):
    _, content = a_checkpoint()
    missing = dict(list(content["state_dict"].items())[1:])
    for state in (missing, {**content["state_dict"], "encoder.extra": torch.zeros(1)}):
        torch.save({**content, "state_dict": state}, tmp_path / "file.ckpt")
        with pytest.raises(UserError, match="does not fit the encoder 'conv32'"):
            dim.load_encoder(tmp_path / "file.ckpt")


class Hostile:
    def __reduce__(self):
        return print, ("executed",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a whole checkpoint"),
        (b"not a checkpoint at all", "cannot be read|not a whole checkpoint|read safely"),
        (pickle.dumps(Hostile()), "read safely"),
    ],
)
def test_damaged_or_hostile_files_are_one_line(tmp_path, content, message, capsys):
    path = tmp_path / "file.ckpt"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message) as error:
        dim.load_encoder(path)
    assert "\n" not in str(error.value)
    assert "executed" not in capsys.readouterr().out


def test_a_hostile_object_inside_a_checkpoint_is_not_executed(tmp_path, capsys):
    _, content = a_checkpoint(extra=Hostile())
    torch.save(content, tmp_path / "file.ckpt")
    capsys.readouterr()
    with pytest.raises(UserError, match="nothing in it was executed"):
        dim.load_encoder(tmp_path / "file.ckpt")
    assert capsys.readouterr().out == ""


def test_a_checkpoint_cut_short_is_one_line(run):
    _, path = run
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UserError, match=r"not a whole checkpoint|read safely"):
        dim.load_encoder(path)


def test_a_flipped_bit_is_noticed(tmp_path):
    # In a small file every bit is flipped in turn: nothing else than what was written may come back.
    path = tmp_path / "small.ckpt"
    torch.save({"state_dict": {"a": torch.arange(5.0)}, "hyper_parameters": {"b": 1}}, path)
    whole, silent = path.read_bytes(), []
    for bit in range(0, 8 * len(whole), 3):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << (bit % 8)
        path.write_bytes(damaged)
        try:
            content = checkpoints.read_checkpoint(path)
        except UserError:
            continue
        same = torch.equal(content["state_dict"]["a"], torch.arange(5.0)) and content["hyper_parameters"] == {"b": 1}
        silent += [] if same else [bit]
    assert silent == []


def test_what_is_not_there_is_said(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        dim.load_encoder(tmp_path / "nothing")
    with pytest.raises(UserError, match="holds no checkpoint"):
        dim.load_encoder(tmp_path)


def test_a_checkpoint_without_an_encoder_is_said(tmp_path):
    torch.save({"state_dict": {"weight": torch.zeros(1)}}, tmp_path / "file.ckpt")
    with pytest.raises(UserError, match="holds no encoder"):
        dim.load_encoder(tmp_path / "file.ckpt")
