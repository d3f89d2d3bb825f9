import dataclasses
import hashlib
import io
import os
import pickle
import shutil
import tarfile

import numpy as np
import pytest
import torch
from torchvision.datasets import CIFAR10, CIFAR100

from dim.data import cifar
from dim.data.sources import load_dataset
from dim.errors import UserError


def md5(content):
    return hashlib.md5(content).hexdigest()


def official_files(kind):
    """Contents of tiny files in the official form, by name."""
    random = np.random.RandomState(kind.classes)
    files = {}
    for name, _ in (*kind.official.train_list, *kind.official.test_list):
        labels = [int(label) for label in random.randint(0, kind.classes, 4)]
        key = "labels" if kind.classes == 10 else "fine_labels"
        # Which a reader of CIFAR-100 may take for its labels.
        coarse = {} if kind.classes == 10 else {"coarse_labels": [label // 5 for label in labels]}
        files[name] = pickle.dumps({"data": random.randint(0, 256, (4, 3072), np.uint8), key: labels, **coarse})
    names = [f"class{i}" for i in range(kind.classes)]
    files[kind.official.meta["filename"]] = pickle.dumps({kind.official.meta["key"]: names})
    return files


@pytest.fixture(params=["cifar10", "cifar100"])
def tiny(request, monkeypatch):
    """(kind, contents by name, archive) of a stand-in whose MD5 sums count as the official ones."""
    official = CIFAR10 if request.param == "cifar10" else CIFAR100
    files = official_files(cifar.KINDS[request.param])
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(f"{official.base_folder}/{name}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    archive = stream.getvalue()

    class Stand(official):
        tgz_md5 = md5(archive)
        train_list = [[name, md5(files[name])] for name, _ in official.train_list]  # noqa: RUF012
        test_list = [[name, md5(files[name])] for name, _ in official.test_list]  # noqa: RUF012
        meta = {**official.meta, "md5": md5(files[official.meta["filename"]])}  # noqa: RUF012

    kind = dataclasses.replace(cifar.KINDS[request.param], official=Stand)
    monkeypatch.setitem(cifar.KINDS, kind.name, kind)
    return kind, files, archive


def put_files(folder, files):
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)


def expected(kind, files):
    batches = [pickle.loads(files[name]) for name, _ in kind.official.train_list]
    images = np.concatenate([batch["data"] for batch in batches]).reshape(-1, 3, 32, 32)
    return torch.from_numpy(images), [label for batch in batches for label in list(batch.values())[1]]


def test_official_files(tiny, tmp_path):
    kind, files, _ = tiny
    put_files(tmp_path / kind.official.base_folder, files)
    dataset = load_dataset(kind.name, tmp_path)
    images, labels = expected(kind, files)
    assert torch.equal(dataset.train.images, images)
    assert dataset.train.labels.tolist() == labels
    tested = pickle.loads(files[kind.official.test_list[0][0]])
    assert dataset.test.labels.tolist() == tested["labels" if kind.classes == 10 else "fine_labels"]
    assert torch.equal(dataset.test.images, torch.from_numpy(tested["data"]).view(-1, 3, 32, 32))
    assert dataset.classes == tuple(f"class{i}" for i in range(kind.classes))
    assert dataset.name == kind.name
    # the folder itself may be given as well
    assert load_dataset(kind.name, tmp_path / kind.official.base_folder).fingerprint == dataset.fingerprint


def test_both_splits_are_resized(tiny, tmp_path):
    kind, files, _ = tiny
    put_files(tmp_path / kind.official.base_folder, files)
    small, whole = (load_dataset(kind.name, tmp_path, image_size=size) for size in (16, None))
    for ours, original in ((small.train, whole.train), (small.test, whole.test)):
        assert ours.images.shape[1:] == (3, 16, 16)
        assert torch.equal(ours.labels, original.labels)
        assert (ours.images.float().mean((1, 2, 3)) - original.images.float().mean((1, 2, 3))).abs().max() < 5


def test_archive_gives_the_same_and_leaves_nothing_behind(tiny, tmp_path):
    kind, files, archive = tiny
    put_files(tmp_path / "a" / kind.official.base_folder, files)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / kind.official.filename).write_bytes(archive)
    assert load_dataset(kind.name, tmp_path / "a").fingerprint == load_dataset(kind.name, tmp_path / "b").fingerprint
    assert [path.name for path in (tmp_path / "b").iterdir()] == [kind.official.filename]


def test_incomplete_files_give_way_to_the_archive(tiny, tmp_path):
    kind, files, archive = tiny
    lost = kind.official.test_list[0][0]
    put_files(tmp_path / kind.official.base_folder, {name: files[name] for name in files if name != lost})
    with pytest.raises(UserError, match=rf"no CIFAR.*\(lacks {lost}\).*allow download"):
        load_dataset(kind.name, tmp_path)
    (tmp_path / kind.official.filename).write_bytes(archive)
    assert len(load_dataset(kind.name, tmp_path).test.labels) == 4


class Trap:
    def __reduce__(self):
        return pytest.fail, ("a file with a wrong MD5 was unpickled",)


def test_wrong_file_is_named_and_not_unpickled(tiny, tmp_path):
    kind, files, _ = tiny
    victim = kind.official.test_list[0][0]
    put_files(tmp_path / kind.official.base_folder, {**files, victim: pickle.dumps(Trap())})
    with pytest.raises(UserError, match=rf"^{victim} in .* has MD5 .*official"):
        load_dataset(kind.name, tmp_path, download=True)


def test_wrong_archive_is_named_and_kept(tiny, tmp_path):
    kind, _, archive = tiny
    path = tmp_path / kind.official.filename
    path.write_bytes(archive[:-1])
    with pytest.raises(UserError, match=rf"{kind.official.filename} has MD5 {md5(archive[:-1])}"):
        load_dataset(kind.name, tmp_path, download=True)
    assert path.read_bytes() == archive[:-1]


def test_nothing_there_lists_the_places(tmp_path):
    with pytest.raises(UserError) as caught:
        load_dataset("cifar10", tmp_path)
    for place in ("cifar-10-batches-py", "cifar-10-python.tar.gz", "cifar-10-images", "cifar10", "train"):
        assert str(tmp_path / place) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def small_kind(monkeypatch):
    kind = dataclasses.replace(cifar.KINDS["cifar10"], classes=2, train_images=6, test_images=4)
    monkeypatch.setitem(cifar.KINDS, "cifar10", kind)


@pytest.mark.parametrize("name", ["cifar-10-images", "cifar10", "."])
def test_image_folder(small_kind, image_folder, tmp_path, name):
    if name != ".":
        image_folder = shutil.move(image_folder, tmp_path / name).parent
    dataset = load_dataset("cifar10", image_folder)
    assert dataset.name == "cifar10"
    assert dataset.train.images.shape == (6, 3, 8, 8)
    assert load_dataset("cifar10", image_folder, image_size=4).train.images.shape == (6, 3, 4, 4)


def test_incomplete_image_folder(small_kind, image_folder):
    (image_folder / "train/cat/0.png").unlink()
    with pytest.raises(UserError, match="5 training and 4 test images where CIFAR-10 has 2, 6 and 4"):
        load_dataset("cifar10", image_folder)


@pytest.mark.skipif("DIM_DATA" not in os.environ, reason="needs the real files: set DIM_DATA to their folder")
@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_real_data(name):
    dataset = load_dataset(name, os.environ["DIM_DATA"])
    kind = cifar.KINDS[name]
    assert dataset.train.images.shape == (50_000, 3, 32, 32)
    assert dataset.test.images.shape == (10_000, 3, 32, 32)
    assert torch.bincount(dataset.train.labels).tolist() == [50_000 // kind.classes] * kind.classes
    assert torch.bincount(dataset.test.labels).tolist() == [10_000 // kind.classes] * kind.classes
