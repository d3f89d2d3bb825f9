"""What a run leaves on disk and prints, with a stand-in for the trainer's counting where real steps add nothing."""

import contextlib
import gc
import os
import signal
import weakref
from types import SimpleNamespace

import pytest
from pytorch_lightning.utilities.rank_zero import rank_zero_only

from dim import export, fit, slurm
from dim.callbacks import PlainProgress, RunCheckpoint
from dim.checkpoints import read_checkpoint
from dim.errors import UserError
from dim.files import locked
from dim.models import Model
from dim.version import __version__

RUN = "digits/run"
TRAIN = (
    "--model Supervised --data ImageData --data.source digits --data.batch_size 16 --codes.images 0 "
    "--trainer.accelerator cpu --trainer.limit_train_batches 2 --trainer.enable_model_summary false"
)


def train(folder, *options):
    fit.run("fit", [*TRAIN.split(), "--runs", str(folder), *options])
    return sorted(path.name for path in (folder / RUN / "checkpoints").iterdir())


def test_epochs_are_kept_as_asked_and_half_written_files_go(tmp_path):
    kept = train(tmp_path, "--trainer.max_epochs", "5", "--checkpoint.every_n_epochs", "2")
    assert kept == ["epoch=0001.ckpt", "epoch=0003.ckpt", "epoch=0004.ckpt", "last.ckpt"]
    checkpoints = tmp_path / RUN / "checkpoints"
    (checkpoints / ".last.ckpt.a1b2.tmp").write_bytes(b"half")
    (checkpoints / "epoch=mine.ckpt").write_bytes(b"a user's own")
    resumed = train(tmp_path, "--trainer.max_epochs", "6", "--ckpt_path", "last")
    assert resumed == ["epoch=0005.ckpt", "epoch=mine.ckpt", "last.ckpt"]


@pytest.mark.parametrize(
    ("options", "steps"),
    [(("--checkpoint.every_n_steps", "3"), [3, 6, 8]), (("--trainer.accumulate_grad_batches", "2"), [1, 2, 3, 4, 4])],
)
def test_last_is_written_every_so_many_whole_steps_and_after_each_epoch(options, steps, tmp_path, monkeypatch):
    written = []
    monkeypatch.setattr(RunCheckpoint, "_save_last", lambda self, trainer: written.append(trainer.global_step))
    monkeypatch.setattr(RunCheckpoint, "on_train_epoch_end", lambda self, trainer, model: self._save_last(trainer))
    monkeypatch.setattr(fit.Cli, "after_fit", lambda self: None)
    every = () if "--checkpoint.every_n_steps" in options else ("--checkpoint.every_n_steps", "1")
    words = [*TRAIN.split(), "--runs", str(tmp_path), "--trainer.max_epochs", "1", "--trainer.limit_train_batches", "8"]
    fit.run("fit", [*words, *options, *every])
    assert written == steps


def test_a_run_killed_while_it_first_saved_is_replaced(tmp_path):
    checkpoints = tmp_path / RUN / "checkpoints"
    checkpoints.mkdir(parents=True)
    (checkpoints / ".last.ckpt.a1b2.tmp").write_bytes(b"half")
    assert train(tmp_path, "--trainer.max_epochs", "1", "--overwrite", "true") == ["epoch=0000.ckpt", "last.ckpt"]


def test_checkpoints_name_the_code_that_trained_them(tmp_path, monkeypatch, capsys):
    def by(commit, epochs, *options):
        monkeypatch.setattr("dim.callbacks.versions", lambda: {"commit": commit})
        train(tmp_path, "--trainer.max_epochs", str(epochs), *options)
        content = read_checkpoint(tmp_path / RUN)
        return content["run"]["commits"], "warning: trained so far by" in (err := capsys.readouterr().err), err

    first, second = "a" * 40, "b" * 40 + "-dirty"
    assert by(first, 1)[:2] == ([first], False)
    assert by(first, 2, "--ckpt_path", "last")[:2] == ([first], False)
    commits, warned, err = by(second, 3, "--ckpt_path", "last")
    assert (commits, warned) == ([first, second], True)
    assert f"by {first}, from now on by {second}" in err
    installed = f"version {__version__}"
    assert by("", 4, "--ckpt_path", "last")[:2] == ([first, second, installed], True)
    card = export.export(str(tmp_path / RUN)).with_suffix(".md").read_text()
    assert "trained with deep-infomax 0.1.0 (commit aaaaaaaaaaaa, then commit bbbbbbbbbbbb-dirty, then version" in card


@pytest.mark.parametrize("number", [None, signal.SIGTERM])
def test_a_run_leaves_signals_and_memory_as_they_were(number, tmp_path, monkeypatch):
    handlers = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    models = []

    def step(self, batch, batch_idx):
        models.append(weakref.ref(self))
        if number:
            os.kill(os.getpid(), number)
        return plain(self, batch, batch_idx)

    plain = Model.training_step
    monkeypatch.setattr(Model, "training_step", step)
    with pytest.raises(SystemExit) if number else contextlib.nullcontext():
        train(tmp_path, "--trainer.max_epochs", "1")
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == handlers
    gc.collect()
    assert models
    assert all(model() is None for model in models)


@pytest.mark.parametrize("limit", [("--trainer.max_epochs", "3"), ("--trainer.max_steps", "6")])
def test_the_last_epoch_has_its_pictures(limit, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(Model, "pictures", lambda self, images: drawn.append(self.trainer.current_epoch) or {})
    train(tmp_path, "--pictures.every_n_epochs", "2", *limit)
    assert drawn == [1, 2]


def test_no_steps_between_checkpoints_is_refused():
    with pytest.raises(UserError, match="every_n_steps is 0"):
        RunCheckpoint(every_n_steps=0)


def test_a_line_says_where_the_run_is(capsys):
    current = SimpleNamespace(batch_progress=SimpleNamespace(current=SimpleNamespace(ready=3)))
    trainer = SimpleNamespace(
        is_global_zero=True,
        global_step=3,
        current_epoch=1,
        max_epochs=4,
        num_training_batches=10,
        callback_metrics={"train/loss": 1.25, "probe/y": 0.5},
        fit_loop=SimpleNamespace(epoch_loop=current),
    )
    progress = PlainProgress()
    progress.on_train_epoch_start(trainer, None)
    progress._start -= 10  # seconds ago; only one batch since, the others were another session's
    progress.on_train_batch_end(trainer)
    progress.on_train_epoch_end(trainer, None)
    line = capsys.readouterr().out
    assert line == "epoch 2/4  batch 3/10  0.10 batches/s  loss 1.25\n"


def test_only_the_first_process_asks_for_the_job_again_and_nothing_stops_it(monkeypatch):
    asked = []
    monkeypatch.setattr(slurm, "requeue", lambda: asked.append(signal.getsignal(signal.SIGTERM)) or "")
    before = signal.getsignal(signal.SIGTERM)
    try:
        monkeypatch.setattr(rank_zero_only, "rank", 1)
        RunCheckpoint()._interrupt(slurm.SIGNAL, None)
        assert not asked
        monkeypatch.setattr(rank_zero_only, "rank", 0)
        with pytest.raises(SystemExit):
            RunCheckpoint()._interrupt(slurm.SIGNAL, None)
        assert asked == [signal.SIG_IGN]
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_run_is_trained_by_one_process_at_a_time(tmp_path):
    with (
        locked(tmp_path / RUN / "checkpoints", 0),
        pytest.raises(UserError, match=r"another process is training in .*digits/run: wait for it"),
    ):
        train(tmp_path)
    assert train(tmp_path, "--trainer.max_epochs", "1")
    with pytest.raises(UserError, match="already holds a run"):  # whose lock is free
        train(tmp_path)
