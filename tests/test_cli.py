import errno
import os
import subprocess
import sys

import pytest

from dim import cli
from dim.version import __version__


def test_version_and_help(capsys):
    cli.main(["--version"])
    assert capsys.readouterr().out == f"dim {__version__}\n"
    cli.main(["--help"])
    text = capsys.readouterr().out
    assert all(command in text for command in cli.COMMANDS)


def test_version_and_help_load_nothing_heavy():
    code = "import sys, dim.cli; dim.cli.main(['--version']); dim.cli.main(['--help']); print(sorted(sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "'torch'" not in out
    assert "'pytorch_lightning'" not in out


def test_module_is_the_command():
    out = subprocess.run([sys.executable, "-m", "dim", "--version"], capture_output=True, text=True, check=True)
    assert out.stdout == f"dim {__version__}\n"


def test_where_both_go_to_one_file_the_error_comes_last(tmp_path):
    code = """
from dim import cli, errors
def act(arguments):
    print("results: there")
    raise errors.UserError("too wide")
cli._dispatch = act
cli.main([])
"""
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with (tmp_path / "log").open("w") as log:
        subprocess.run([sys.executable, "-c", code], stdout=log, stderr=log, env=buffered)
    assert (tmp_path / "log").read_text() == "results: there\ndim: error: too wide\n"


FIT = ["fit", "--model", "DeepInfoMax", "--data", "ImageData"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train"], "there is no command 'train'"),
        (["mine", "gausians"], "there is no experiment 'gausians': one of gaussians"),
        (["evaluate", "nowhere"], "nowhere does not exist"),
        (["evaluate", "nowhere", "--protocol", "slow"], "protocol"),
        (["fit", "--config", "nowhere.yaml"], "nowhere.yaml"),
        (["fit", "--model", "DeepInfoMax", "--model.alfa", "1"], "no option 'alfa': did you mean 'alpha'?"),
        (["fit", "--trainer.max_epochs", "many", "--model", "DeepInfoMax", "--data", "ImageData"], "max_epochs"),
        (["test", "--model", "DeepInfoMax", "--data", "ImageData"], "needs --ckpt_path"),
        (["fit", "--model", "DeepInfoMax", "--model.alpha", "0", "--model.beta", "0", "--data", "ImageData"], "both 0"),
        (["fit", "--model", "Supervised", "--data", "ImageData", "--data.root", "nowhere"], "nowhere"),
        ([*FIT, "--model.learning_rate", "-1"], "learning_rate is -1.0: it must be a number above 0"),
        ([*FIT, "--model.learning_rate", ".inf"], "learning_rate is inf: it must be a number above 0"),
        ([*FIT, "--model.betas", "[2, 0.9]"], "betas are (2.0, 0.9): both must be at least 0 and below 1"),
        ([*FIT, "--model.units", "-5"], "units is -5: it must be at least 1"),
        ([*FIT, "--model.code_size", "0"], "code_size is 0: it must be at least 1"),
        ([*FIT, "--codes.images", "-1"], "codes.images is -1: it must be at least 0"),
        ([*FIT, "--data.batch_size", "0"], "batch_size is 0: it must be at least 1"),
        ([*FIT, "--data.batch_size", "2.5"], "data.batch_size is 2.5: it must be a whole number"),
        ([*FIT, "--seed_everything", "-1"], "error: seed_everything is -1: it must be at least 0 and below 2^32"),
        ([*FIT, "--trainer.strategy", "dpp"], "trainer: You selected an invalid strategy name"),
        ([*FIT, "--trainer.accumulate_grad_batches", "0"], "trainer.accumulate_grad_batches is 0"),
        ([*FIT, "--trainer.precision", "bf16-mixd"], "trainer.precision is bf16-mixd: did you mean 'bf16-mixed'?"),
        ([*FIT, "--model.local_objective", "infonec"], "model.local_objective is infonec: did you mean 'infonce'?"),
        (["fit"], "dim fit needs a model and data: --config configs/DATA/MODEL.yaml"),
        ([*FIT, "--nam", "x"], "dim fit has no option 'nam': did you mean 'name'?"),
        ([*FIT, "--name", "../../x"], "name is '../../x': it must be a folder below runs"),
        (["evaluate", "nowhere", "--onyl", "knn"], "dim evaluate has no option 'onyl': did you mean 'only'?"),
        (["reproduce", "table1", "--seed", "3"], "dim reproduce has no option 'seed': did you mean 'seeds'?"),
        (["mine", "gaussians", "--estimators", "[jsdd]"], "jsdd"),
    ],
)
def test_mistakes_are_one_line_without_a_traceback(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["dim", *arguments])
    with pytest.raises(SystemExit) as stopped:
        cli.main(arguments)
    assert stopped.value.code == 2
    error = [line for line in capsys.readouterr().err.splitlines() if line.startswith("dim: ")]
    assert len(error) == 1
    assert message in error[0]
    assert list(tmp_path.iterdir()) == []


def test_a_config_that_is_no_text_is_named(tmp_path, capsys, monkeypatch):
    (tmp_path / "model.yaml").write_bytes(b"\xff\xfe\x00")
    monkeypatch.setattr(sys, "argv", ["dim"])
    with pytest.raises(SystemExit) as stopped:
        cli.main(["fit", "--config", str(tmp_path / "model.yaml")])
    assert stopped.value.code == 2
    assert f"{tmp_path / 'model.yaml'} is no text" in capsys.readouterr().err


def test_faults_of_the_program_keep_their_traceback(monkeypatch):
    monkeypatch.setattr(cli, "_dispatch", lambda arguments: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        cli.main([])


def test_a_full_disk_is_one_line_whoever_writes(monkeypatch, capsys):
    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(cli, "_dispatch", full)
    with pytest.raises(SystemExit) as stopped:
        cli.main([])
    assert stopped.value.code == 2
    assert capsys.readouterr().err == "dim: error: cannot write: No space left on device\n"
