import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional

from dim.errors import UserError
from dim.evaluation.decoder import DecoderTraining, fit_decoder, reconstruction, write_picture
from dim.evaluation.ssim import ms_ssim, ssim, ssim_authors
from dim.networks.decoders import Decoder

SMALL = DecoderTraining(widths=(16, 16, 8, 8), epochs=4, batch_size=50)


@pytest.fixture(scope="module")
def images(digits):
    """Digits as 32x32 colour images."""

    def enlarged(pixels):
        planes = functional.interpolate(pixels.view(-1, 1, 8, 8), size=(32, 32))
        return (planes / 16 * 255).round().to(torch.uint8).expand(-1, 3, -1, -1)

    return enlarged(digits.train[:600]), enlarged(digits.test[:100])


def test_codes_that_hold_the_image_reconstruct_better_than_random_ones(digits, images, tmp_path):
    train, test = images
    random = torch.Generator().manual_seed(0)
    picture = tmp_path / "pictures" / "digits.png"
    told = reconstruction(digits.train[:600], train, digits.test[:100], test, training=SMALL, picture=picture)
    blind = reconstruction(
        torch.randn(600, 64, generator=random),
        train,
        torch.randn(100, 64, generator=random),
        test,
        training=SMALL,
    )
    assert told["mse"] < 0.8 * blind["mse"]
    for column in ("ms_ssim", "ssim", "ssim_authors"):
        assert blind[column] < told[column] < 1
    assert told["train_mse"] == sorted(told["train_mse"], reverse=True)
    assert Image.open(picture).size == (340, 4 * 2 * 34)
    assert [path.name for path in picture.parent.iterdir()] == ["digits.png"]


def test_each_measure_stands_under_its_name_and_is_of_the_decoder_in_evaluation_mode(digits, images, monkeypatch):
    train, test = images
    training = DecoderTraining(widths=(8, 8, 8, 8), epochs=2, batch_size=20, learning_rate=0.01)
    decoder, losses = fit_decoder(digits.train[:600], train, training)
    truth = test / 127.5 - 1
    with torch.no_grad():
        made = decoder.eval()(digits.test[:100])
    monkeypatch.setattr("dim.evaluation.decoder.EVALUATION_ROWS", 40)  # 40, 40 and 20 rows
    found = reconstruction(digits.train[:600], train, digits.test[:100], test, training=training)
    # A step's loss is that of the decoder before it.
    whole = DecoderTraining(widths=(8, 8, 8, 8), epochs=1, batch_size=600)
    torch.manual_seed(whole.seed)
    fresh = Decoder(digits.train.shape[1], 32, whole.widths)
    error = (fresh(digits.train[:600]) - (train / 127.5 - 1)).square().mean()
    assert fit_decoder(digits.train[:600], train, whole)[1] == [pytest.approx(float(error), rel=1e-4)]
    for measure in (ms_ssim, ssim, ssim_authors):
        assert found[measure.__name__] == pytest.approx(measure(made, truth).mean().item(), abs=1e-4)
    assert found["mse"] == pytest.approx(functional.mse_loss(made, truth).item(), abs=1e-4)
    assert found["train_mse"] == losses


def test_decoder_is_trained_on_so_many_images_drawn_at_random(digits, images, monkeypatch):
    original, seen = Decoder.forward, []

    def forward(self, codes):
        seen.append(codes[:, 0].int())
        return original(self, codes)

    monkeypatch.setattr(Decoder, "forward", forward)
    numbered = torch.arange(600.0)[:, None].expand(-1, 2)
    fit_decoder(numbered, images[0], DecoderTraining(widths=(4, 4, 4, 4), epochs=3, batch_size=10, images=30))
    rows, times = torch.cat(seen).unique(return_counts=True)
    assert len(rows) == 30
    assert (times == 3).all()
    assert rows.max() > 300
    epochs = torch.cat(seen).view(3, 30)
    assert not torch.equal(epochs[0], epochs[1])  # in another order each time


def test_cosine_falls_to_zero_over_all_steps(digits, images, rates, cosine):
    training = DecoderTraining(widths=(4, 4, 4, 4), epochs=2, batch_size=25, images=100)
    fit_decoder(digits.train[:600], images[0], training)
    assert rates == pytest.approx(cosine(training.learning_rate, 2 * 4))


def test_is_deterministic_and_leaves_the_global_stream_alone(digits, images):
    train, test = images
    training = DecoderTraining(widths=(8, 8, 8, 8), epochs=1, images=100)
    state = torch.get_rng_state()
    first = reconstruction(digits.train[:600], train, digits.test[:100], test, training=training)
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(3)
    assert reconstruction(digits.train[:600], train, digits.test[:100], test, training=training) == first


def test_published_schedule():
    training = DecoderTraining.published()
    assert (training.widths, training.learning_rate) == ((512, 256, 128, 64), 1e-4)
    assert (training.decay, training.milestones, training.batch_size) == ("steps", (50, 100), 64)


def test_picture_puts_originals_above_reconstructions(tmp_path):
    white, black = torch.ones(3, 3, 4, 4), -torch.ones(3, 3, 4, 4)
    write_picture(tmp_path / "grid.png", white, black, columns=2)
    pixels = np.asarray(Image.open(tmp_path / "grid.png"))
    assert pixels.shape == (24, 12, 3)
    assert (pixels[1:5, 1:5] == 255).all()
    assert (pixels[7:11, 1:5] == 0).all()
    assert (pixels[13:17, 1:5] == 255).all()
    assert (pixels[19:23, 1:5] == 0).all()
    assert (pixels[12:, 6:] == 255).all()


def test_bad_arguments_are_named(digits, images):
    train, test = images
    with pytest.raises(UserError, match=r"found \(1200, 64\) and"):
        reconstruction(digits.train, train, digits.test[:100], test, training=SMALL)
    with pytest.raises(UserError, match="0 epochs"):
        reconstruction(digits.train[:600], train, digits.test[:100], test, training=DecoderTraining(epochs=0))
