"""What README and docs show is run, on a small scale: commands, and Python; files that they name exist."""

import json
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from jsonargparse import ArgumentParser
from PIL import Image
from releases import a_release

from dim import cli, fit, release, reproduce
from dim.data import sources
from dim.networks.encoders import LAYERS
from dim.reproduction.rows import rows_of

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
COMMANDS = re.findall(r"^(?:`)?(dim (?:fit|test|evaluate) [^`\n]*)", README, re.M)
PAGES = sorted((ROOT / "docs").glob("*.md"))
SMALL = [
    *("--data.source", "digits", "--data.batch_size", "8", "--trainer.accelerator", "cpu", "--trainer.devices", "1"),
    *("--trainer.max_steps", "1", "--trainer.enable_model_summary", "false"),
]


def arguments(command):
    words = shlex.split(command.replace("runs/cifar10", "runs/digits"), comments=True)
    return [str(ROOT / word) if word.startswith("configs/") else word for word in words[1:]]


def test_the_readme_shows_each_command():
    assert {command.split()[1] for command in COMMANDS} == {"fit", "test", "evaluate"}


def test_commands_run_in_the_order_of_the_readme(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["dim"])
    # `dim test` is shown for another row.
    fit.run("fit", ["--config", str(ROOT / "configs/cifar10/vae.yaml"), *SMALL])
    for command in COMMANDS:
        words = arguments(command)
        if words[0] == "fit":
            cli.main([*words, *SMALL])
        elif words[0] == "evaluate":
            cli.main([*words, "--only", "rank,knn"])
        else:
            cli.main(words)
    assert "effective rank" in capsys.readouterr().out


def test_python_blocks_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fit.run("fit", ["--config", str(ROOT / "configs/digits/dim_local_infonce.yaml"), *SMALL])
    blocks = re.findall(r"```python\n(.*?)```", README, re.S)
    assert len(blocks) == 3
    images = torch.rand(8, 3, 32, 32) * 2 - 1
    for block in blocks:
        exec(block.replace("runs/cifar10", "runs/digits"), {"images": images})


def test_commands_that_reproduce_make_a_plan(capsys):
    commands = [shlex.split(line, comments=True) for line in re.findall(r"^dim reproduce .*", README, re.M)]
    assert len(commands) >= 2
    for _, _, *words in commands:
        reproduce.run([*words, "--dry-run", "--configs", str(ROOT / "configs")])
    assert capsys.readouterr().out.count("one after the other") == len(commands)


def test_the_page_s_rows_are_rows(tmp_path):
    (block,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs/reproduce.md").read_text(), re.S)
    (tmp_path / "prior.yaml").write_text(block)
    rows = rows_of(str(tmp_path / "prior.yaml"), "cifar10", ROOT / "configs")
    assert [row.name for row in rows] == ["dim_local_infonce", "dim_local_infonce-no-prior"]


class Parsed(Exception):  # noqa: N818
    """What a command line means was understood."""


@pytest.mark.parametrize("page", [*PAGES, ROOT / "README.md"], ids=lambda page: page.stem)
def test_pages_name_commands_and_files_that_are_there(page, capsys, monkeypatch):
    text = re.sub(r"<!--.*?-->", "", page.read_text(), flags=re.S)
    monkeypatch.setattr("sys.argv", ["dim"])
    for command in re.findall(r"^(?:srun )?(dim fit .*)", text, re.M):
        with pytest.raises(SystemExit) as stopped:
            cli.main([*arguments(command), "--print_config"])
        assert stopped.value.code == 0
        assert "class_path: dim.models" in capsys.readouterr().out

    def understood(*_):
        raise Parsed

    monkeypatch.setattr(ArgumentParser, "instantiate", understood)
    within = re.findall(r"`(dim (?:evaluate|predict|export|reproduce|report|mine) [^`]+)`", text)
    for command in [*re.findall(r"^(dim (?!fit)\w+.*)", text, re.M), *(" ".join(words.split()) for words in within)]:
        if "EXPERIMENT" not in command:
            with pytest.raises(Parsed):
                cli.main(arguments(command))
    for path in re.findall(r"[`\s]((?:dim|tests|benchmarks|configs)/[\w./*-]*)", text):
        assert list(ROOT.glob(path)), path
    for link in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (page.parent / link).exists(), link


@pytest.mark.parametrize("page", ["evaluate", "mine", "own-data", "train"])
def test_python_of_pages_runs(page, tmp_path, monkeypatch):
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / f"docs/{page}.md").read_text(), re.S)
    assert blocks
    monkeypatch.chdir(tmp_path)
    fit.run("fit", ["--config", str(ROOT / "configs/digits/dim_local_infonce.yaml"), *SMALL])
    Image.new("RGB", (32, 32)).save(tmp_path / "image.png")
    cli.main(["predict", "runs/digits/dim_local_infonce", str(tmp_path)])
    images = torch.rand(8, 3, 32, 32) * 2 - 1
    names = {"images": images, "batches": [images] * 2}
    monkeypatch.setattr(sources, "_OWN", {})
    for block in blocks:
        exec(block.replace("runs/cifar10", "runs/digits"), names)
    for name in sources.names()[4:]:  # data sets that the page adds
        for part in ("train", "test"):
            np.savez(tmp_path / part, images=np.zeros((4, 3, 8, 8), np.uint8), labels=np.arange(4) % 2)
        assert len(sources.load_dataset(name, tmp_path).train.labels) == 4
    assert (len(sources.names()) > 4) == (page == "own-data")


def test_no_page_s_python_is_forgotten():
    shown = {page.stem for page in PAGES if "```python" in page.read_text()}
    assert shown == {"evaluate", "mine", "own-data", "pretrained", "train"}


def test_the_faults_of_the_page_are_those_that_were_tried():
    rows = json.loads((ROOT / "benchmarks/measured/faults.json").read_text())["rows"]
    lines = [f"| {row['fault']} | {row['tried']} | {row['survived']} |" for row in rows]
    page = (ROOT / "docs/robustness.md").read_text()
    assert re.findall(r"^\| .* \| \d+ \| \d+ \|$", page, re.M) == lines
    assert sum(row["tried"] for row in rows if row["fault"].startswith("SIG")) >= 20


def test_the_recipes_of_the_page_are_those_that_were_trained():
    rows = json.loads((ROOT / "benchmarks/measured/recipes.json").read_text())["rows"]
    lines = []
    for row in rows:
        accuracies = [row["accuracy"][layer] for layer in LAYERS]
        numbers = " | ".join(f"{value:.2f}" for value in (*accuracies, sum(accuracies) / 3))
        lines.append(f"| {row['changed'] or '-'} | {row['epochs']} | {numbers} |")
    page = (ROOT / "docs/recipe-log.md").read_text()
    section = page.partition("<!-- recipes")[2].partition("<!-- end of recipes")[0]
    assert re.findall(r"^\| .* \| \d+ \| .*\|$", section, re.M) == lines


def test_python_of_the_page_on_released_encoders_runs(tmp_path, monkeypatch):
    shutil.copy(ROOT / "hubconf.py", tmp_path)
    a_release(tmp_path / "checkpoints")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(release, "FOLDER", tmp_path / "checkpoints")
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs/pretrained.md").read_text(), re.S)
    assert len(blocks) == 4
    names = {"images": torch.rand(8, 3, 32, 32) * 2 - 1}
    for block in blocks:
        exec(block, names)
    assert {layer: tuple(value.shape) for layer, value in names["features"].items()} == {
        "conv": (8, 4096),
        "fc": (8, 1024),
        "y": (8, 64),
    }


@pytest.mark.parametrize("target", re.findall(r"^make (\w+)", README, re.M))
def test_make_targets_exist(target):
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.M)


def test_the_demo_s_commands_end_in_a_table_and_a_report(tmp_path, monkeypatch, capfd):
    recipe = re.search(r"^demo:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.M)
    (_, *reproduced), (_, *reported) = (shlex.split(line) for line in recipe[1].splitlines())
    assert (reproduced[0], reported) == ("reproduce", ["report"])
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / "configs", "configs")
    few = ["--trainer.max_epochs", "1", "--trainer.limit_train_batches", "2", "--trainer.accelerator", "cpu"]
    cli.main([*reproduced, "--rows", "DIM*", "--", *few])
    cli.main(reported)
    assert "DIM(L) (infoNCE)" in capfd.readouterr().out
    assert (tmp_path / "results/report/index.html").exists()
