import torch

from dim.evaluation.margins import SquaredHinge

Z = torch.tensor([-2.0, 0.0, 0.5, 0.999, 1.001, 3.0], dtype=torch.float64, requires_grad=True)


def test_the_loss_is_the_square_of_the_hinge():
    expected = [max(0.0, 1 - z) ** 2 for z in Z.tolist()]
    assert SquaredHinge().value(Z.detach()).tolist() == expected


def test_derivatives_are_those_of_the_loss():
    loss = SquaredHinge()
    (slope,) = torch.autograd.grad((1 - Z).clamp(min=0).square().sum(), Z, create_graph=True)
    (curvature,) = torch.autograd.grad(slope.sum(), Z)
    torch.testing.assert_close(loss.slope(Z.detach()), slope.detach())
    torch.testing.assert_close(loss.curvature(Z.detach()), curvature)
