import pytest
import torch
from torch import nn

from dim.networks.modes import evaluating


def test_every_part_gets_its_own_mode_back_even_after_an_error():
    net = nn.Sequential(nn.BatchNorm1d(2), nn.Linear(2, 2))
    net[0].eval()

    def fails():
        with evaluating(net):
            assert not any(part.training for part in net.modules())
            assert not net(torch.ones(3, 2)).requires_grad
            raise KeyError

    with pytest.raises(KeyError):
        fails()
    assert [part.training for part in net.modules()] == [True, False, True]
    assert net(torch.ones(3, 2)).requires_grad
