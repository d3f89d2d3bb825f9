import os
import subprocess
from pathlib import Path

import torch

from dim.provenance import commit_of, described, machine, short, versions
from dim.version import __version__


def test_versions_of_what_numbers_depend_on():
    found = versions()
    assert found["deep-infomax"] == __version__
    assert found["torch"] == torch.__version__.split("+")[0]
    assert found["commit"] == commit_of(Path(__file__).resolve().parent.parent)


def test_a_commit_is_of_the_package_s_own_checkout(tmp_path, monkeypatch):
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b.c", "-C", str(tmp_path)]
    for words in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "first"]):
        subprocess.run([*git, *words], check=True)
    (tmp_path / "site-packages").mkdir()
    assert len(commit := commit_of(tmp_path)) == 40
    (tmp_path / "code.py").write_text("1")
    subprocess.run([*git, "add", "code.py"], check=True)
    assert commit_of(tmp_path) == f"{commit}-dirty"
    assert commit_of(tmp_path / "site-packages") == ""
    monkeypatch.setenv("PATH", str(tmp_path))
    assert commit_of(tmp_path) == ""


def test_a_short_commit_still_says_that_files_had_changed():
    commit = "0123456789abcdef0123456789abcdef01234567"
    assert [short(code) for code in (commit, f"{commit}-dirty", "")] == [
        "0123456789ab",
        "0123456789ab-dirty",
        "unknown",
    ]


def test_a_machine_s_gpus_are_those_that_the_process_sees(tmp_path, monkeypatch):
    tool = tmp_path / "nvidia-smi"
    tool.write_text('#!/bin/sh\ncase "$*" in *"-i 1"*) echo B;; *) echo A; echo B;; esac\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    whole, one, none = (machine({"CUDA_VISIBLE_DEVICES": seen} if seen is not None else {}) for seen in (None, "1", ""))
    assert (whole["gpus"], one["gpus"]) == ("A, B", "B")
    assert "gpus" not in none
    assert described(one) == f"{one['processor']}, {one['cores']} cores, B"
    assert described(none) == f"{none['processor']}, {none['cores']} cores"
