import pytest
import torch
from torch import nn

from dim.networks.batchnorm import UnionBatchNorm, in_groups, use_union_statistics


@pytest.mark.parametrize("shape", [(16, 5), (4, 5, 3, 3)])
def test_alone_it_is_batch_norm(shape):
    plain = (nn.BatchNorm1d if len(shape) == 2 else nn.BatchNorm2d)(5).double()
    nn.init.uniform_(plain.weight)
    union = UnionBatchNorm(5).double()
    union.load_state_dict(plain.state_dict())
    a = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    b = a.detach().clone().requires_grad_()
    for _ in range(2):
        first, second = plain(a), union(b)
        torch.testing.assert_close(second, first)
    first.sin().sum().backward()
    second.sin().sum().backward()
    torch.testing.assert_close(b.grad, a.grad)
    for own, its in zip(union.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(own.grad, its.grad)
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(union.state_dict()[name], value)
    torch.testing.assert_close(union.eval()(b), plain.eval()(a))


def test_half_precision_inputs_have_float32_statistics():
    values = (torch.randn(4096, 3) * 0.5 + 3).bfloat16()
    out = UnionBatchNorm(3)(values)
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out.float(), nn.BatchNorm1d(3)(values.float()), atol=0.02, rtol=0.02)


def test_replacing_keeps_parameters_and_names():
    module = nn.Sequential(nn.Linear(3, 4), nn.Sequential(nn.BatchNorm1d(4), nn.ReLU()))
    before = {name: id(parameter) for name, parameter in module.named_parameters()}
    keys = set(module.state_dict())
    use_union_statistics(module, cuda=False)
    assert isinstance(module[1][0], UnionBatchNorm)
    assert {name: id(parameter) for name, parameter in module.named_parameters()} == before
    assert set(module.state_dict()) == keys


def test_groups_are_passes_of_their_own():
    """Outputs, gradients and running statistics, and the module as before after."""

    def net():
        torch.manual_seed(0)
        maps = nn.Sequential(nn.Conv2d(3, 4, 2, 2, bias=False), nn.BatchNorm2d(4), nn.ReLU(inplace=True))
        return nn.Sequential(maps, nn.Flatten(), nn.Linear(16, 5), nn.BatchNorm1d(5)).double()

    images = torch.randn(12, 3, 4, 4, dtype=torch.float64)
    whole, reference = net(), net()
    with in_groups(whole, 12, 4):
        outputs = whole(images)
    expected = torch.cat([reference(group) for group in images.split(4)])
    torch.testing.assert_close(outputs, expected)
    outputs.sin().sum().backward()
    expected.sin().sum().backward()
    torch.testing.assert_close(whole.state_dict(), reference.state_dict())
    for own, its in zip(whole.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(own.grad, its.grad)
    torch.testing.assert_close(whole(images), reference(images))
    assert not torch.allclose(whole(images)[:4], whole(images[:4]))
