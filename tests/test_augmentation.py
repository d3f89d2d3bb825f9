import pytest
import torch
from sklearn.datasets import load_sample_images

from dim.augmentation import NUMBERS, SMALLEST_AREA, crop, random_view, recolour

# Area, aspect, places and mirroring of a crop that is the whole image; colours that stay.
WHOLE, AS_IT_IS = [1.0, 0.5, 0.5, 0.5, 0.0], [0.5, 0.5, 0.5, 0.9, 0.9]


@pytest.fixture(scope="module")
def photos():
    """Four pieces of scikit-learn's photographs, (4, 3, 32, 32) in [-1, 1]."""
    pieces = [photo[top : top + 256 : 8, 100:356:8] for photo in load_sample_images().images for top in (0, 150)]
    return torch.stack([torch.tensor(piece).permute(2, 0, 1) for piece in pieces]).float() / 127.5 - 1


def rows(*numbers):
    return torch.tensor(numbers)


def test_a_view_may_be_the_image_itself(photos):
    view = random_view(photos[:1], rows(WHOLE + AS_IT_IS))
    torch.testing.assert_close(view, photos[:1], atol=1e-5, rtol=0)
    assert view.is_contiguous(memory_format=torch.channels_last)


def test_mirroring_is_left_to_right(photos):
    view = crop(photos[:1], rows([*WHOLE[:4], 0.9]))
    torch.testing.assert_close(view, photos[:1].flip(3), atol=1e-5, rtol=0)


def test_a_crop_shows_a_part_of_the_image():
    # A picture whose values are the places of its pixels: what a crop shows tells where it is.
    place = (torch.arange(32.0) + 0.5) / 32
    image = torch.stack([place.expand(32, 32), place[:, None].expand(32, 32), torch.zeros(32, 32)])[None]
    side = SMALLEST_AREA**0.5
    smallest = crop(image, rows([0.0, 0.5, 0.0, 1.0, 0.0]))[0]
    expected = place * side
    torch.testing.assert_close(smallest[0], expected.clamp(min=0.5 / 32).expand(32, 32), atol=1e-5, rtol=0)
    torch.testing.assert_close(
        smallest[1], (1 - side + place * side).clamp(max=31.5 / 32)[:, None].expand(32, 32), atol=1e-5, rtol=0
    )


@pytest.mark.parametrize(
    ("aspect", "width", "height"), [(0.0, (3 / 4) ** 0.5, (4 / 3) ** 0.5), (1 - 2**-24, (4 / 3) ** 0.5, (3 / 4) ** 0.5)]
)
def test_crops_are_wider_or_higher_and_stay_inside(aspect, width, height):
    place = (torch.arange(32.0) + 0.5) / 32
    image = torch.stack([place.expand(32, 32), place[:, None].expand(32, 32), torch.zeros(32, 32)])[None]
    side = SMALLEST_AREA**0.5
    # Up to the right-hand edge, and up to the lower one, which interpolation does not reach by half a pixel.
    view = crop(image, rows([0.0, aspect, 1.0, 1.0, 0.0]))[0]
    across = 1 - side * width + place * side * width
    down = 1 - side * height + place * side * height
    torch.testing.assert_close(view[0], across.clamp(max=31.5 / 32).expand(32, 32), atol=1e-5, rtol=0)
    torch.testing.assert_close(view[1], down.clamp(max=31.5 / 32)[:, None].expand(32, 32), atol=1e-5, rtol=0)


def test_a_crop_is_never_larger_than_the_image(photos):
    wide = crop(photos[:1], rows([1.0, 1 - 2**-24, 0.0, 0.5, 0.0]))
    middle = crop(photos[:1], rows([1.0, 1 - 2**-24, 1.0, 0.5, 0.0]))
    torch.testing.assert_close(wide, middle)  # all columns are in it, wherever it was to lie


def test_products_in_half_precision_do_not_move_crops(photos):
    numbers = torch.rand(len(photos), NUMBERS, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", torch.bfloat16):
        views = random_view(photos, numbers)
    torch.testing.assert_close(views, random_view(photos, numbers), atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        ([1.0, 0.5, 0.5, 0.0, 0.9], lambda light: (1.4 * light).clamp(0, 1)),
        ([0.0, 0.5, 0.5, 0.0, 0.9], lambda light: 0.6 * light),
        ([0.0, 0.0, 0.0, 0.9, 0.9], lambda light: light),
        ([0.5, 0.5, 0.5, 0.9, 0.0], lambda light: grey(light).expand_as(light)),
        ([0.5, 0.0, 0.5, 0.0, 0.9], lambda light: mean_grey(light) + 0.6 * (light - mean_grey(light))),
        ([0.5, 0.5, 0.0, 0.0, 0.9], lambda light: grey(light) + 0.6 * (light - grey(light))),
        ([0.8, 1.0, 0.2, 0.0, 0.9], lambda light: in_turn(light, 1.24, 1.4, 0.76)),
    ],
    ids=["brighter", "darker", "colours stay", "grey", "less contrast", "less saturation", "all in turn"],
)
def test_colours(numbers, expected, photos):
    view = recolour(photos[:1], rows(numbers))
    light = (photos[:1].double() + 1) / 2
    torch.testing.assert_close(view.double(), 2 * expected(light) - 1, atol=1e-5, rtol=0)


def grey(light):
    return (light * torch.tensor([0.299, 0.587, 0.114]).double().view(3, 1, 1)).sum(1, keepdim=True)


def in_turn(light, brightness, contrast, saturation):
    light = (light * brightness).clamp(0, 1)
    light = (mean_grey(light) + contrast * (light - mean_grey(light))).clamp(0, 1)
    return (grey(light) + saturation * (light - grey(light))).clamp(0, 1)


def mean_grey(light):
    return grey(light).mean()


def test_each_image_has_its_own_view_and_stays_in_range(photos):
    numbers = torch.rand(len(photos), NUMBERS, generator=torch.Generator().manual_seed(0))
    views = random_view(photos, numbers)
    assert views.shape == photos.shape
    assert views.abs().max() <= 1
    alone = torch.cat([random_view(photos[i : i + 1], numbers[i : i + 1]) for i in range(len(photos))])
    torch.testing.assert_close(views, alone, atol=1e-5, rtol=0)
    assert (views - photos).abs().mean() > 0.05
