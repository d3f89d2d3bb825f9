import importlib.util
import shutil
from pathlib import Path

import pytest
import torch
from releases import NAME, a_release

from dim import release

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """The repository's hubconf.py beside a folder that holds one release."""
    folder = tmp_path_factory.mktemp("checkout")
    shutil.copy(ROOT / "hubconf.py", folder)
    a_release(folder / "checkpoints")
    return folder


@pytest.mark.parametrize("place", ["checkout", "repository"])
def test_entry_points_are_the_files_of_the_folder(place, checkout, monkeypatch):
    folder = checkout if place == "checkout" else ROOT
    # The hub lists repositories on GitHub alone; here its download is a folder.
    monkeypatch.setattr(torch.hub, "_get_cache_or_reload", lambda *args, **options: str(folder))
    known = release.names(folder / "checkpoints")
    assert torch.hub.list("owner/repository") == sorted([*known, "pretrained"])
    for name in known:
        assert f"checkpoints/{name}.md" in torch.hub.help("owner/repository", name)


def test_entry_points_give_the_encoders(checkout):
    file = checkout / "checkpoints" / f"{NAME}.safetensors"
    images = torch.rand(4, 3, 32, 32) * 2 - 1
    expected = release.load_pretrained(file).features(images)
    for arguments in ([NAME], ["pretrained", NAME], ["pretrained", str(file)]):
        encoder = torch.hub.load(str(checkout), *arguments, source="local")
        assert not encoder.training
        assert torch.equal(encoder.features(images)["y"], expected["y"])


def test_what_it_depends_on_is_there(checkout):
    specification = importlib.util.spec_from_file_location("hubconf", checkout / "hubconf.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    assert all(importlib.util.find_spec(name) for name in module.dependencies)
