import pytest
import torch
from sklearn.datasets import load_digits

from dim.data import ImageData, sources
from dim.data.sources import Dataset, Split, load_dataset, load_for_encoder
from dim.errors import UserError


def test_digits_are_scikit_learns():
    dataset = load_dataset("digits", image_size=8)
    assert dataset.train.images.shape == (1437, 3, 8, 8)
    assert dataset.test.images.shape == (360, 3, 8, 8)
    assert dataset.classes == tuple("0123456789")
    digits = load_digits()
    expected = {(*map(int, row), int(label)) for row, label in zip(digits.data, digits.target, strict=True)}
    images = torch.cat([dataset.train.images, dataset.test.images])
    levels = (images.float() * 16 / 255).round().long()
    labels = torch.cat([dataset.train.labels, dataset.test.labels])
    found = {(*levels[i, 0].reshape(-1).tolist(), int(labels[i])) for i in range(len(labels))}
    assert found == expected
    assert torch.equal(images[:, 0], images[:, 1])
    assert torch.equal(images[:, 0], images[:, 2])


def test_digits_are_enlarged_and_split_alike_each_time():
    first, second = load_dataset("digits"), load_dataset("digits")
    assert first.train.images.shape[1:] == (3, 32, 32)
    assert first.train.images.dtype == torch.uint8
    assert first.train.labels.dtype == torch.int64
    assert first.fingerprint == second.fingerprint
    counts = torch.bincount(first.test.labels)
    assert counts.max() - counts.min() <= 2


def test_root_that_is_a_file(tmp_path):
    (tmp_path / "data.zip").write_bytes(b"")
    for source in ("cifar10", "folder"):
        with pytest.raises(UserError, match=r"data\.zip is a file"):
            load_dataset(source, tmp_path / "data.zip")


@pytest.mark.parametrize("size", [0, -32])
def test_impossible_image_sizes(size):
    with pytest.raises(UserError, match="image_size"):
        load_dataset("digits", image_size=size)


def test_unknown_source():
    with pytest.raises(
        UserError, match="no data set 'mnist': choose one of cifar10, cifar100, digits, folder, or let DIM_IMPORT"
    ):
        load_dataset("mnist")


@pytest.fixture
def own(monkeypatch):
    """Registers a data set called `own` for one test."""
    monkeypatch.setattr(sources, "_OWN", {})

    def register(**changed):
        parts = {"train": Split(images(6), torch.arange(6) % 2), "test": Split(images(4), torch.arange(4) % 2)}
        sources.source("own")(lambda root: Dataset(str(root), **parts | changed, classes=("a", "b")))

    return register


def images(count, side=8):
    return torch.arange(count * 3 * side * side).reshape(count, 3, side, side).to(torch.uint8)


def test_a_data_set_of_one_s_own_is_read_with_its_root_and_resized(own, tmp_path):
    own()
    dataset = load_dataset("own", tmp_path)
    assert (dataset.name, dataset.classes) == ("own", ("a", "b"))
    assert torch.equal(dataset.train.images, images(6))
    assert load_dataset("own", image_size=16).test.images.shape == (4, 3, 16, 16)
    assert load_for_encoder("own", tmp_path, False, 32).train.images.shape == (6, 3, 32, 32)
    data = ImageData("own", batch_size=2, validation=2)
    data.setup()
    assert (len(data.splits["train"].labels), data.num_classes, data.image_size) == (4, 2, 8)
    for name in ("own", "digits"):
        with pytest.raises(UserError, match=f"there is a data set '{name}' already"):
            sources.source(name)(load_dataset)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"train": Split(images(6).float(), torch.arange(6) % 2)},
            r"train images .* found a Tensor of torch\.float32 \(6, 3, 8, 8\)",
        ),
        (
            {"test": Split(images(4)[..., :4], torch.arange(4) % 2)},
            r"test images .* found a Tensor of torch\.uint8 \(4, 3, 8, 4\)",
        ),
        ({"test": Split(images(0), torch.arange(0))}, r"test images .* \(0, 3, 8, 8\)"),
        (
            {"train": Split(images(6), torch.arange(5) % 2)},
            r"train labels .* int64 \(6,\), found a Tensor of torch\.int64 \(5,\)",
        ),
        ({"train": Split(images(6), torch.arange(6))}, "train labels of the data set 'own' must be from 0 to 1"),
        ({"train": Split(images(6).numpy(), torch.arange(6) % 2)}, r"torch\.from_numpy.* found a ndarray of uint8"),
        ({"test": Split(images(4), [0, 1, 0, 1])}, "test labels .* found a list"),
        ({"test": None}, "must return a Dataset of two Splits"),
        ({"test": Split(images(4, side=16), torch.arange(4) % 2)}, "8 and 16 pixels: give image_size"),
    ],
)
def test_what_the_package_cannot_take_is_one_line(own, changed, message):
    own(**changed)
    with pytest.raises(UserError, match=message):
        load_dataset("own")


def test_what_is_no_data_set_is_one_line(own):
    sources.source("own")(lambda root: [root])
    with pytest.raises(UserError, match="'own' is a list: its function must return a Dataset of two Splits"):
        load_dataset("own")


def test_a_data_set_has_classes_and_a_name_that_folders_may_have(own):
    sources.source("own")(lambda root: Dataset("own", Split(images(2), torch.zeros(2).long()), (), ()))
    with pytest.raises(UserError, match="no classes"):
        load_dataset("own")
    for name in ("a/b", "..", "one,two", ""):
        with pytest.raises(UserError, match="a data set cannot be called"):
            sources.source(name)
