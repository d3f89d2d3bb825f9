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


def test_faults_of_the_program_keep_their_traceback(monkeypatch):
    monkeypatch.setattr(cli, "_dispatch", lambda arguments: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        cli.main([])
