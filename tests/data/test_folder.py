import os
import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from dim.data import folder
from dim.data.sources import load_dataset
from dim.errors import UserError


def load(root, image_size=None):
    return load_dataset("folder", root, image_size=image_size)


def pixels(path):
    return torch.from_numpy(np.array(Image.open(path))).permute(2, 0, 1)


def test_reads_classes_in_order(image_folder):
    dataset = load(image_folder)
    assert dataset.classes == ("cat", "dog")
    assert dataset.train.images.shape == (6, 3, 8, 8)
    assert dataset.train.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert dataset.test.labels.tolist() == [0, 0, 1, 1]
    assert torch.equal(dataset.train.images[4], pixels(image_folder / "train/dog/1.png"))
    assert torch.equal(dataset.test.images[1], pixels(image_folder / "test/cat/1.png"))


def test_val_stands_in_for_test(image_folder):
    expected = load(image_folder).fingerprint
    (image_folder / "test").rename(image_folder / "val")
    assert load(image_folder).fingerprint == expected


def test_nested_files_upper_case_suffixes_and_clutter(image_folder, save_image):
    save_image(image_folder / "train/cat/images/deep.PNG")
    (image_folder / "train/cat/notes.txt").write_text("not an image")
    (image_folder / "train/cat/._0.png").write_bytes(b"left by a file browser")
    (image_folder / "train/.hidden").mkdir()
    assert len(load(image_folder).train.labels) == 7


def test_grey_palette_and_alpha_become_rgb(image_folder):
    colour = Image.open(image_folder / "train/cat/0.png")
    grey = colour.convert("L")
    modes = {"0": grey, "1": colour.quantize(16), "2": colour.convert("RGBA")}
    modes["2"].putalpha(3)
    for name, image in modes.items():
        image.save(image_folder / f"train/dog/{name}.png")
    images = load(image_folder).train.images
    assert torch.equal(images[3], torch.from_numpy(np.array(grey)).expand(3, 8, 8))
    assert torch.equal(images[4], torch.from_numpy(np.array(modes["1"].convert("RGB"))).permute(2, 0, 1))
    assert torch.equal(images[5], images[0])


def test_mode_without_a_conversion_is_named(image_folder):
    deep = Image.fromarray(np.full((8, 8), 40_000, np.uint16))
    deep.save(image_folder / "train/dog/1.png")
    with pytest.raises(UserError, match=r"dog.1\.png has mode I"):
        load(image_folder)


def test_damaged_images_are_named(image_folder):
    victim = image_folder / "test/dog/1.png"
    whole = victim.read_bytes()
    for content in (whole[:-60], b"", b"GIF89a nonsense"):
        victim.write_bytes(content)
        with pytest.raises(UserError, match=r"test.dog.1\.png is not a readable image"):
            load(image_folder)
        assert victim.read_bytes() == content


def test_sizes_must_agree_unless_image_size_is_given(image_folder, save_image):
    save_image(image_folder / "train/dog/1.png", size=(12, 10))
    with pytest.raises(UserError, match=r"differing sizes.*cat.0\.png is 8x8.*dog.1\.png is 12x10.*image_size"):
        load(image_folder)
    assert load(image_folder, 4).train.images.shape == (6, 3, 4, 4)


def test_oblong_images_need_image_size_and_are_cropped_at_the_centre(image_folder):
    image = np.zeros((8, 16, 3), np.uint8)
    image[:, 4:12] = 200
    for path in image_folder.rglob("*.png"):
        Image.fromarray(image).save(path)
    with pytest.raises(UserError, match="16x8, not square"):
        load(image_folder)
    assert (load(image_folder, 8).train.images == 200).all()


def test_orientation_is_applied(image_folder):
    image = Image.fromarray(np.arange(192, dtype=np.uint8).reshape(8, 8, 3))
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    image.save(image_folder / "train/cat/0.png", exif=exif)
    expected = torch.from_numpy(np.array(image)).permute(2, 0, 1).flip(1, 2)
    assert torch.equal(load(image_folder).train.images[0], expected)


@pytest.mark.parametrize("factor", [1.5, 3])  # PIL warns in the first case and raises in the second
def test_decompression_bomb_is_one_clear_error(image_folder, monkeypatch, factor):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", int(64 / factor))
    warnings.simplefilter("ignore")  # a caller's filter must not let it through
    with pytest.raises(UserError, match="too large to be opened safely"):
        load(image_folder, 8)


def test_a_class_that_train_lacks(image_folder, save_image):
    save_image(image_folder / "test/fox/0.png")
    with pytest.raises(UserError, match=r"test.fox is a class that .*train lacks"):
        load(image_folder)


def test_a_class_that_test_lacks_is_fine(image_folder, save_image):
    save_image(image_folder / "train/ant/0.png")
    dataset = load(image_folder)
    assert dataset.classes == ("ant", "cat", "dog")
    assert dataset.test.labels.tolist() == [1, 1, 2, 2]


@pytest.mark.parametrize(
    ("missing", "message"),
    [("train", "no image folder at"), ("test", "neither test/ nor val/")],
)
def test_missing_parts(image_folder, missing, message):
    (image_folder / missing).rename(image_folder / "elsewhere")
    with pytest.raises(UserError, match=message):
        load(image_folder)


def test_root_that_does_not_exist(tmp_path):
    with pytest.raises(UserError, match="no image folder at"):
        load(tmp_path / "nowhere")


def test_no_classes_and_empty_classes(image_folder):
    (image_folder / "train/fox").mkdir()
    with pytest.raises(UserError, match=r"no images in .*fox"):
        load(image_folder)
    (image_folder / "train").rename(image_folder / "old")
    (image_folder / "train").mkdir()
    with pytest.raises(UserError, match="no class folders"):
        load(image_folder)


@pytest.mark.parametrize("inside", ["train/dog/1.png", "train/dog", "train"])
def test_links_that_lead_out_are_refused(image_folder, tmp_path, inside):
    target = tmp_path / "private"
    (image_folder / inside).rename(target)
    (image_folder / inside).symlink_to(target)
    with pytest.raises(UserError, match="leads out of"):
        load(image_folder)


def test_links_within_the_folder_are_followed(image_folder, tmp_path):
    (image_folder / "train/dog/9.png").symlink_to(image_folder / "train/cat/0.png")
    (image_folder / "train/dog/loop").symlink_to(image_folder / "train")
    alias = tmp_path / "alias"
    alias.symlink_to(image_folder)  # the root itself may be a link
    train = load(alias).train
    assert train.labels.tolist() == [0, 0, 0, 1, 1, 1, 1]
    assert torch.equal(train.images[6], train.images[0])


@pytest.fixture
def decoded(monkeypatch):
    """Counts the images that are decoded."""
    paths = []
    decode = folder._decode
    monkeypatch.setattr(folder, "_decode", lambda files, *rest: (paths.extend(files), decode(files, *rest))[1])
    return paths


def test_second_load_comes_from_the_cache(image_folder, cache, decoded):
    first = load(image_folder)
    second = load(image_folder)
    assert len(decoded) == 10
    assert second.fingerprint == first.fingerprint
    assert second.classes == first.classes
    assert [path.suffix for path in cache.iterdir()] == [".safetensors"]


def test_any_change_of_the_folder_invalidates_the_cache(image_folder, decoded, save_image):
    load(image_folder)
    victim = image_folder / "train/cat/0.png"

    def touch():
        os.utime(victim, ns=(0, 12345))

    def grow():
        status = victim.stat()
        save_image(victim)
        victim.write_bytes(victim.read_bytes() + b" ")
        os.utime(victim, ns=(status.st_atime_ns, status.st_mtime_ns))

    def rename():
        victim.rename(victim.with_name("7.png"))

    def relabel():
        (image_folder / "train/cat/7.png").rename(image_folder / "train/dog/7.png")

    def remove():
        (image_folder / "train/dog/7.png").unlink()

    for change in (touch, grow, rename, relabel, remove):
        decoded.clear()
        change()
        load(image_folder)
        assert decoded, change.__name__
    decoded.clear()
    load(image_folder, 4)
    assert decoded


@pytest.mark.parametrize(
    "damage", [lambda b: b[:-7], lambda b: b[:-7] + b"rubbish", lambda b: b"", lambda b: b"{}" * 9]
)
def test_damaged_cache_is_decoded_again(image_folder, cache, decoded, damage):
    expected = load(image_folder).fingerprint
    (file,) = cache.iterdir()
    file.write_bytes(damage(file.read_bytes()))
    assert load(image_folder).fingerprint == expected
    assert len(decoded) == 20
    load(image_folder)  # and the cache is whole again
    assert len(decoded) == 20


def test_unwritable_cache_is_no_error(image_folder, cache, monkeypatch, decoded):
    (cache / "file").write_bytes(b"")
    monkeypatch.setenv("DIM_CACHE", str(cache / "file"))
    assert load(image_folder).fingerprint == load(image_folder).fingerprint
    assert len(decoded) == 20
    assert [path.name for path in cache.iterdir()] == ["file"]
