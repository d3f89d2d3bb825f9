import numpy as np
import pytest
from PIL import Image


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    """No test reads or fills the user's own cache."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("DIM_CACHE", str(folder))
    return folder


@pytest.fixture
def save_image():
    """Saves a random image; returns its pixels as (side, side, 3)."""
    random = np.random.RandomState(0)

    def save(path, size=(8, 8)):
        pixels = random.randint(0, 256, (size[1], size[0], 3), np.uint8)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
        return pixels

    return save


@pytest.fixture
def image_folder(tmp_path, save_image):
    """Root of a small image folder with two classes, 3 training and 2 test images each."""
    root = tmp_path / "images"
    for part, count in (("train", 3), ("test", 2)):
        for name in ("cat", "dog"):
            for i in range(count):
                save_image(root / part / name / f"{i}.png")
    return root
