import pytest
import torch

from dim.devices import choose_device
from dim.errors import UserError


def test_devices_that_are_there():
    assert choose_device("cpu") == torch.device("cpu")
    assert choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize("name", ["cuda:99", "abacus"])
def test_others_are_one_line(name):
    with pytest.raises(UserError, match=f"device '{name}' cannot be used here") as error:
        choose_device(name)
    assert "\n" not in str(error.value)
