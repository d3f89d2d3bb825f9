from types import SimpleNamespace

import pytest
import torch

from dim.devices import choose_device, exact_products, seed_default
from dim.errors import UserError


def test_devices_that_are_there():
    assert choose_device("cpu") == torch.device("cpu")
    assert choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize("name", ["cuda:99", "abacus", "meta"])
def test_others_are_one_line(name):
    with pytest.raises(UserError, match=f"device '{name}' cannot be used here") as error:
        choose_device(name)
    assert "\n" not in str(error.value)


def test_default_draws_are_seeded_as_by_manual_seed(monkeypatch):
    torch.manual_seed(7)
    expected = torch.rand(3)
    # What it is for: torch.manual_seed walks through all kinds of devices, with a call stack for each.
    monkeypatch.setattr(torch, "manual_seed", lambda seed: pytest.fail("slow"))
    seed_default(7, torch.device("cpu"))
    assert torch.equal(torch.rand(3), expected)


def test_default_draws_of_another_device_are_seeded_too(monkeypatch):
    seeded = {}

    def module_of(device):
        return SimpleNamespace(manual_seed=lambda seed: seeded.update({device: seed}))

    monkeypatch.setattr(torch, "get_device_module", module_of)
    seed_default(7, torch.device("cuda:1"))
    assert seeded == {torch.device("cuda:1"): 7}


def test_exact_products_give_the_setting_back():
    torch.set_float32_matmul_precision("high")
    try:
        with exact_products():
            assert torch.get_float32_matmul_precision() == "highest"
            assert not torch.backends.cudnn.allow_tf32
        assert torch.get_float32_matmul_precision() == "high"
        assert torch.backends.cudnn.allow_tf32
    finally:
        torch.set_float32_matmul_precision("highest")
