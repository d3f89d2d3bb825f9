"""Released encoders: those of the repository, and what is refused."""

import functools
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch
from releases import NAME, a_release

import dim
from dim import checkpoints, release
from dim.data.sources import load_dataset
from dim.errors import UserError
from dim.evaluation.features import encode
from dim.evaluation.knn import knn
from dim.networks.encoders import build_encoder
from dim.reporting import cards

TEMPORARY = "of this test"
RELEASED = [TEMPORARY, *release.names()]
LIMIT = 20_000_000


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A release that must not be changed."""
    return a_release(tmp_path_factory.mktemp("released"))


@pytest.fixture
def file(tmp_path):
    """A release to spoil."""
    return a_release(tmp_path)


@pytest.fixture(params=RELEASED)
def path(request, made):
    """Each released file of the repository, and one that is always there."""
    return made if request.param == TEMPORARY else release.find(request.param)


def test_a_released_file_is_the_one_of_its_record(path):
    content, record = path.read_bytes(), release.read_record(path)
    assert len(content) == record["bytes"] < LIMIT
    assert hashlib.sha256(content).hexdigest() == record["sha256"]
    assert release.read(path)[0] == record["metadata"]


def test_a_released_encoder_computes_what_was_recorded(path):
    encoder = dim.load_pretrained(path)
    assert not encoder.training
    assert {value.dtype for value in encoder.parameters()} == {torch.float32}
    assert encoder.convs[1][0].weight.is_contiguous(memory_format=torch.channels_last)
    expected = release.read_record(path)["reference"]
    assert release.reference(encoder) == pytest.approx(expected, rel=1e-3, abs=1e-4 * max(map(abs, expected)))


def test_a_released_card_says_what_the_files_say(path):
    before = path.with_suffix(".md").read_text()
    record = release.read_record(path)
    assert record["sha256"] in before
    assert cards.card(path) == before


def found(encoder, source, root=".", train=4000, test=1000):
    """Share of real images in percent whose class a nearest neighbour by Y tells, and by chance."""
    dataset = dataset_of(source, root, encoder.image_size)
    splits = (dataset.train.rows(slice(train)), dataset.test.rows(slice(test)))
    (x, labels), (query, truth) = ((encode(encoder, s.images, ["y"])["y"], s.labels) for s in splits)
    return knn(x, labels, query, truth, neighbours=10)["accuracy"], 100 / len(dataset.classes)


dataset_of = functools.cache(lambda source, root, size: load_dataset(source, root, image_size=size))


def test_a_released_encoder_tells_real_images_apart(path):
    # Digits are easy even for random filters: this tells an encoder that works from one that is broken.
    accuracy, chance = found(dim.load_pretrained(path), "digits")
    assert accuracy > 8 * chance


def test_a_broken_encoder_does_not(made):
    encoder = dim.load_pretrained(made)
    with torch.no_grad():
        encoder.fc[0].weight.zero_()
    accuracy, chance = found(encoder, "digits")
    assert accuracy < 2 * chance


@pytest.mark.parametrize("name", release.names())
def test_a_released_encoder_tells_the_images_of_its_data_apart(name):
    data = release.read_record(release.find(name))["metadata"]["data"]
    if "DIM_DATA" not in os.environ:
        pytest.skip("set DIM_DATA to a folder with CIFAR to try the released encoders on its images")
    encoder = dim.load_pretrained(name)
    accuracy, chance = found(encoder, data, os.environ["DIM_DATA"])
    torch.manual_seed(0)
    untrained, _ = found(build_encoder("conv32", encoder.y.out_features), data, os.environ["DIM_DATA"])
    assert accuracy > 3 * chance
    assert accuracy > 1.3 * untrained


def test_the_table_of_the_repository_is_that_of_its_files():
    folder = release.FOLDER
    for page in (folder / "README.md", folder.parent / "README.md"):
        text = page.read_text()
        assert text == cards.with_table(text, folder, page), f"run dim evaluate on a file in {folder} again"


def test_a_release_is_found_by_name_and_by_path(made):
    images = torch.rand(4, 3, 32, 32) * 2 - 1
    expected = checkpoints.load_encoder(made.parent / "run").features(images)
    for arguments in ([NAME, made.parent], [NAME, str(made.parent)], [made], [str(made)]):
        features = dim.load_pretrained(*arguments).features(images)
        assert tuple(features) == ("conv", "fc", "y")
        assert all(torch.equal(features[layer], expected[layer]) for layer in expected)
    assert torch.equal(checkpoints.load_encoder(made).features(images)["y"], expected["y"])


def test_the_repository_s_names_need_no_folder(made, monkeypatch):
    monkeypatch.setattr(release, "FOLDER", made.parent)
    assert release.names() == [NAME]
    assert not dim.load_pretrained(NAME).training
    assert checkpoints.find_checkpoint(NAME) == made


def test_loading_needs_neither_lightning_nor_pickle_nor_network(made):
    code = (
        "import sys, torch, dim\n"
        "def refuse(event, arguments): assert event.split('.')[0] not in ('socket', 'pickle'), event\n"
        "sys.addaudithook(refuse)\n"
        f"dim.load_pretrained({str(made)!r})\n"
        "print(*{name.partition('.')[0] for name in sys.modules})"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "safetensors" in out
    assert not {"pytorch_lightning", "lightning_fabric", "torchvision", "jsonargparse", "sklearn"} & set(out)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("dim_local_infonce_cifar", f"did you mean '{NAME}'"),
        ("resnet50", f"there are {NAME}"),
        ("nowhere.safetensors", "nowhere.safetensors does not exist"),
    ],
)
def test_unknown_names_are_told_what_there_is(made, name, message):
    with pytest.raises(UserError, match=message):
        dim.load_pretrained(name, made.parent)


def test_a_folder_without_encoders_says_where_they_are(tmp_path):
    with pytest.raises(UserError, match="in checkpoints/ of the repository, not in the installed package"):
        dim.load_pretrained(NAME, tmp_path)


@pytest.mark.parametrize("place", [0, 9, 500, -1, 10_000_000])
def test_a_flipped_bit_anywhere_is_refused(file, place, monkeypatch):
    content = bytearray(file.read_bytes())
    content[place] ^= 1
    file.write_bytes(content)
    monkeypatch.setattr(safetensors.torch, "load", None)  # nothing of it may be read
    with pytest.raises(UserError, match=r"is not what was released: its SHA-256 is [0-9a-f]{64}") as error:
        dim.load_pretrained(file)
    assert "\n" not in str(error.value)


def test_a_file_cut_short_is_refused(file):
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(UserError, match="is not what was released"):
        checkpoints.read_trained(file)


@pytest.mark.parametrize("content", ["", "[]", "{", '{"sha256": "0"}', "3"])
def test_a_record_that_is_damaged_is_refused(file, content):
    file.with_suffix(".json").write_text(content)
    with pytest.raises(UserError, match=rf"{NAME}\.json is not what `dim export` wrote"):
        dim.load_pretrained(file)


def test_a_file_without_its_record_is_refused(file):
    file.with_suffix(".json").unlink()
    with pytest.raises(UserError, match="which records the hash to check"):
        dim.load_pretrained(file)


def rewritten(file, change, metadata=True):
    """Writes another file with a record that fits it."""
    facts, state = release.read(file)
    change(facts, state)
    data = safetensors.torch.save(state, {release.HEADER: json.dumps(facts)} if metadata else None)
    file.write_bytes(data)
    record = {**release.read_record(file), "sha256": hashlib.sha256(data).hexdigest()}
    file.with_suffix(".json").write_text(json.dumps(record))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda facts, state: state.pop("y.bias"), "does not fit the encoder 'conv32'.*y.bias"),
        (lambda facts, state: state.update(more=torch.zeros(1)), "does not fit the encoder 'conv32'.*more"),
        (lambda facts, state: facts.update(code_size=32), "does not fit the encoder 'conv32'"),
        (lambda facts, state: facts.update(encoder="conv16"), "there is no encoder 'conv16'"),
        (lambda facts, state: facts.update(format_version=2), "has format 2, this package reads 1"),
    ],
)
def test_loading_is_strict(file, change, message):
    rewritten(file, change)
    with pytest.raises(UserError, match=message):
        dim.load_pretrained(file)


def test_another_safetensors_file_is_refused(file):
    rewritten(file, lambda facts, state: None, metadata=False)
    with pytest.raises(UserError, match="is not a file that `dim export` wrote"):
        dim.load_pretrained(file)


def test_the_default_folder_is_the_repository_s():
    assert Path(__file__).parent.parent / "checkpoints" == release.FOLDER
