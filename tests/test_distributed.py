"""Two gloo processes of 32 images give what one process of 64 gives: losses, estimates and every gradient."""

import itertools

import pytest
import torch
from processes import run_in_processes
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from dim import distributed, models
from dim.data.loader import Batch
from dim.networks.batchnorm import in_groups, use_union_statistics
from dim.objectives import OBJECTIVES

IMAGES = 64
CASES = [
    *({"local_objective": name, "local_critic": "dot"} for name in OBJECTIVES),
    *({"local_objective": name, "local_critic": "concat", "negatives": 2} for name in OBJECTIVES),
    *({"alpha": 1.0, "beta": 0.0, "global_objective": name} for name in ("dv", "jsd", "infonce")),
    {"local_objective": "infonce", "local_critic": "concat"},
    {"local_objective": "jsd", "occlusion": True, "coordinates": "relative"},
    {"local_objective": "infonce", "views": True},
    {"alpha": 1.0, "beta": 1.0, "global_critic": "dot", "local_objective": "dv", "negatives": 3},
    {"alpha": 1.0, "beta": 0.0, "gamma": 1.0, "prior_objective": "dv", "prior": "sphere"},
    {"alpha": 1.0, "beta": 0.0, "gamma": 1.0, "prior_objective": "infonce", "prior": "gaussian"},
    {"model": "Autoencoder"},
    {"model": "Autoencoder", "kl_weight": 1.0},
    {"model": "AdversarialAutoencoder"},
    {"model": "BiGAN"},
    {"model": "NoiseAsTargets"},
    {"model": "Supervised"},
]
SMALL = {"gamma": 0.1, "units": 24, "width": 24}


class TrainingStep(nn.Module):
    """A model's loss as a forward pass, which is how Lightning wraps it for several processes."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, batch):
        step = self.model.losses(batch)
        self.step = {name: value.detach() for name, value in {**step.losses, **step.metrics}.items()}
        return torch.stack(list(step.losses.values())).sum()


def build(model="DeepInfoMax", **options):
    small = SMALL if model == "DeepInfoMax" else {}
    built = getattr(models, model)(**small | {"code_size": 16} | options)
    if model == "NoiseAsTargets":
        built.make_targets(IMAGES)
    return tame(built) if model == "DeepInfoMax" else built


def tame(model):
    # Scores near zero keep exponential objectives in range without changing what is computed.
    with torch.no_grad():
        for critic in model.critics.values():
            for name, parameter in critic.named_parameters():
                if name in ("map_block.norm.weight", "last.weight", "code.weight"):
                    parameter.mul_(0.05)
    return model


def training_step(case):
    torch.manual_seed(0)
    model = build(**case).double()
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(IMAGES, 3, 32, 32, generator=generator, dtype=torch.float64) * 2 - 1
    rows = IMAGES // distributed.size()
    own = slice(distributed.rank() * rows, (distributed.rank() + 1) * rows)
    indices = torch.arange(IMAGES)
    model.reseed(0, 0)
    step = TrainingStep(model)
    if distributed.size() > 1:
        use_union_statistics(model, cuda=False)
        run = DistributedDataParallel(step)
    else:
        run = step
    run(Batch(images[own], indices[own] % 10, indices[own])).backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    buffers = {name: buffer for name, buffer in model.named_buffers() if "running" in name}
    return step.step, gradients, buffers


def training_steps(cases):
    return [training_step(case) for case in cases]


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    spread = run_in_processes(training_steps, tmp_path_factory.mktemp("gloo"), CASES)
    return list(zip(CASES, training_steps(CASES), *spread, strict=True))


def close(actual, expected, smallest=1e-6):
    """To 1e-8 of the largest number; differences of numbers below `smallest` may be rounding."""
    scale = expected.abs().max().clamp(min=smallest)
    return float((actual - expected).abs().max() / scale) < 1e-8


@pytest.mark.parametrize("index", range(len(CASES)), ids=lambda i: "-".join(str(v) for v in CASES[i].values()))
def test_two_processes_are_one_with_the_union_batch(results, index):
    case, (values, gradients, buffers), *ranks = results[index]
    mean = {name: (ranks[0][0][name] + ranks[1][0][name]) / 2 for name in values}
    for name, value in values.items():
        assert value.isfinite(), (case, name)
        assert close(mean[name], value), (case, name, float(mean[name]), float(value))
    for _, own, statistics in ranks:
        assert own.keys() == gradients.keys()
        rounding = 1e-6 * max(1.0, *(float(gradient.abs().max()) for gradient in gradients.values()))
        for name, gradient in gradients.items():
            assert close(own[name], gradient, rounding), (case, name)
        for name, buffer in buffers.items():
            assert close(statistics[name], buffer), (case, name)


def grouped_pass():
    """A network on a rank's rows, whose batch norms see groups of 8 rows of all processes."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(5, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, 4), nn.BatchNorm1d(4)).double()
    inputs = torch.randn(16, 5, dtype=torch.float64)  # 4 rows of rank 0, 4 of rank 1, and once more
    size = distributed.size()
    rows = torch.arange(16).view(2, size, -1)[:, distributed.rank()].flatten()
    if size > 1:
        use_union_statistics(net, cuda=False)
    with in_groups(net, len(rows), 8 // size):
        outputs = net(inputs[rows])
    outputs.sin().sum().backward()
    return rows, outputs.detach(), [parameter.grad for parameter in net.parameters()], dict(net.named_buffers())


def test_groups_are_of_all_processes_together(tmp_path):
    _, outputs, gradients, buffers = grouped_pass()
    ranks = run_in_processes(grouped_pass, tmp_path)
    for rows, own, _, its in ranks:
        assert len(rows) == 8
        torch.testing.assert_close(own, outputs[rows])
        torch.testing.assert_close(its, buffers)
    for whole, *parts in zip(gradients, *(gradient for _, _, gradient, _ in ranks), strict=True):
        torch.testing.assert_close(sum(parts), whole)


def collectives():
    rank, size = distributed.rank(), distributed.size()
    local = torch.arange(3.0).add(10 * rank).requires_grad_()
    gathered = distributed.gather(local)
    weights = torch.arange(6.0) * (1 + rank)
    (gathered * weights).sum().backward()
    blocks = torch.tensor([[rank * 10.0], [rank * 10.0 + 1]], requires_grad=True)
    received = distributed.exchange(blocks)
    (received * (1 + rank)).sum().backward()
    return {
        "size": size,
        "gathered": gathered.detach(),
        "gathered_gradient": local.grad,
        "received": received.detach(),
        "received_gradient": blocks.grad,
        "total": distributed.total(torch.tensor([1.0 + rank])),
    }


def test_collectives_and_their_gradients(tmp_path):
    first, second = run_in_processes(collectives, tmp_path)
    assert first["size"] == 2
    expected = torch.tensor([0.0, 1, 2, 10, 11, 12])
    assert torch.equal(first["gathered"], expected)
    assert torch.equal(second["gathered"], expected)
    # Both processes weigh what this one gave, by 1 and by 2: the gradient is the sum, not the mean.
    assert torch.equal(first["gathered_gradient"], torch.arange(3.0) * 3)
    assert torch.equal(second["gathered_gradient"], torch.arange(3.0, 6.0) * 3)
    assert torch.equal(first["received"], torch.tensor([[0.0], [10.0]]))
    assert torch.equal(second["received"], torch.tensor([[1.0], [11.0]]))
    assert torch.equal(first["received_gradient"], torch.tensor([[1.0], [2.0]]))
    for result in (first, second):
        assert torch.equal(result["total"], torch.tensor([3.0]))


def test_alone_they_are_the_identity():
    local = torch.randn(3)
    assert all(function(local) is local for function in (distributed.gather, distributed.exchange))
    assert torch.equal(distributed.total(local), local)
    assert list(itertools.chain([distributed.rank()], [distributed.size()])) == [0, 1]


def a_sum_of_halves():
    local = torch.ones(1, dtype=torch.float16, requires_grad=True)
    share = 2048.0 if distributed.rank() == 0 else 1.0  # of which half precision's sum has no room for the 1s
    (distributed.gather(local) * share).float().sum().backward()
    return local.grad.item()


def test_gradients_of_what_was_gathered_are_added_up_in_float32(tmp_path):
    assert run_in_processes(a_sum_of_halves, tmp_path, size=3) == [2050.0] * 3


@pytest.mark.parametrize(("backend", "left"), [("nccl", [3]), ("gloo", [])])
def test_a_process_that_fails_does_not_wait_for_nccl_s_others(backend, left, monkeypatch, capsys):
    statuses = []
    monkeypatch.setattr(distributed, "size", lambda: 2)
    monkeypatch.setattr(torch.distributed, "get_backend", lambda: backend)
    monkeypatch.setattr("os._exit", statuses.append)
    distributed.leave(3, "full")
    assert statuses == left
    assert capsys.readouterr().err == "full\n" * len(left)
