import contextlib
import copy
import math

import pytest
import torch

from dim import adversarial
from dim.augmentation import NUMBERS, random_view
from dim.contrast import contrast
from dim.data.loader import Batch
from dim.errors import UserError
from dim.models import DeepInfoMax
from dim.models.base import Step
from dim.objectives import infonce
from dim.structure import occlude

SMALL = {"units": 32, "width": 32, "code_size": 16}


def test_each_loss_moves_exactly_its_players(batch, felt):
    model = DeepInfoMax(alpha=0.5, beta=0.1, gamma=0.1, **SMALL)
    assert set(model.losses(batch).losses) == {"global", "local", "prior", "discriminator"}
    assert felt(model, batch, ["global"]) == {"encoder", "global"}
    assert felt(model, batch, ["local"]) == {"encoder", "local"}
    assert felt(model, batch, ["prior"]) == {"encoder"}
    assert felt(model, batch, ["discriminator"]) == {"discriminator"}


def test_a_part_of_weight_zero_is_not_built(batch):
    local = DeepInfoMax(alpha=0.0, beta=1.0, gamma=0.0, **SMALL)
    assert set(local.critics) == {"local"}
    assert not hasattr(local, "discriminator")
    assert set(local.losses(batch).losses) == {"local"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": 0.0, "beta": 0.0}, "alpha and beta are both 0"),
        ({"gamma": -1.0}, "gamma is -1.0"),
        ({"score_spread": 0.0}, "score_spread is 0.0"),
        ({"local_critic": "concatt"}, "local_critic is 'concatt': choose from concat, dot"),
        ({"global_critic": "Dot"}, "global_critic is 'Dot'"),
        ({"local_objective": "infonc"}, "local_objective is 'infonc': choose from dv, "),
        ({"prior_objective": "bce"}, "prior_objective is 'bce'"),
        ({"prior": "unifrom"}, "prior is 'unifrom': choose from uniform, gaussian"),
        ({"coordinates": "relativ"}, "coordinates is 'relativ'"),
        ({"schedule": "cosin"}, "schedule is 'cosin': choose from constant, cosine"),
        ({"negatives": 0}, "needs at least 1"),
        ({"negatives": 1, "local_objective": "interpolated"}, "needs at least 2"),
        ({"encoder": "folded32_globals", "coordinates": "absolute"}, "predicted from one code"),
        ({"encoder": "folded32_globals"}, "cannot be uniform on"),
        ({"views": True, "occlusion": True}, "views with occlusion or coordinates"),
        ({"views": True, "coordinates": "absolute"}, "views with occlusion or coordinates"),
        ({"views": True, "ghost_batch": 4}, "ghost_batch with views"),
        ({"ghost_batch": 1}, "ghost_batch is 1: it must be at least 2"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        DeepInfoMax(**SMALL, **options)


@pytest.mark.parametrize(
    ("options", "idle"),
    [
        ({"local_objective": "jsd"}, ["width"]),
        ({"local_objective": "jsd", "alpha": 1.0, "beta": 0.0}, ["local_objective", "units"]),
        ({"global_objective": "dv", "global_critic": "dot"}, ["global_critic", "global_objective", "width"]),
        ({"prior": "gaussian", "gradient_penalty": 2.0, "gamma": 0.0}, ["prior", "gradient_penalty", "width"]),
        ({"score_spread": 1.0, "local_critic": "concat"}, ["units", "score_spread"]),
        ({"score_spread": 1.0, "local_critic": "concat", "coordinates": "absolute"}, ["score_spread"]),
    ],
)
def test_options_that_nothing_reads_are_named(options, idle):
    assert set(DeepInfoMax(**SMALL, **options).idle()) == set(idle)


def test_weights_scale_their_losses(batch):
    values = {}
    for weight in (1.0, 3.0):
        torch.manual_seed(0)
        model = DeepInfoMax(alpha=weight, beta=weight, gamma=weight, **SMALL)
        model.reseed(0, 0)
        values[weight] = model.losses(batch).losses
    for part in ("global", "local", "prior"):
        torch.testing.assert_close(values[3.0][part], 3 * values[1.0][part])
    torch.testing.assert_close(values[3.0]["discriminator"], values[1.0]["discriminator"])


@pytest.mark.parametrize(
    ("prior", "objective"), [("uniform", "jsd"), ("gaussian", "dv"), ("ball", "infonce"), ("sphere", "jsd")]
)
def test_the_encoder_fools_the_discriminator_which_resists(batch, prior, objective):
    torch.manual_seed(0)
    model = DeepInfoMax(gamma=1.0, prior=prior, prior_objective=objective, gradient_penalty=0.0, **SMALL)
    named = {"encoder": "prior", "discriminator": "discriminator"}

    def discriminator_loss():
        model.reseed(0, 0)
        return model.losses(batch).losses["discriminator"].item()

    # First a discriminator that has learnt something, then one step of each player on its own.
    optimiser = torch.optim.Adam(model.discriminator.parameters(), 1e-3)
    before = discriminator_loss()
    for _ in range(30):
        optimiser.zero_grad()
        model.reseed(0, 0)
        model.losses(batch).losses["discriminator"].backward()
        optimiser.step()
    trained = discriminator_loss()
    assert trained < before
    for player, loss in named.items():
        module = getattr(model, player)
        state = {name: value.clone() for name, value in module.state_dict().items()}
        model.zero_grad()
        model.reseed(0, 0)
        model.losses(batch).losses[loss].backward()
        norm = sum(p.grad.square().sum() for p in module.parameters() if p.grad is not None).sqrt()
        with torch.no_grad():
            for parameter in module.parameters():
                if parameter.grad is not None:
                    parameter.sub_(parameter.grad, alpha=1e-3 / float(norm))
        after = discriminator_loss()
        assert after > trained if player == "encoder" else after < trained, (player, trained, after)
        module.load_state_dict(state)


@pytest.mark.parametrize("negatives", [None, 2])
def test_a_learned_baseline_is_of_its_own_code_and_trains_the_encoder(batch, negatives):
    torch.manual_seed(0)
    model = DeepInfoMax(gamma=0.0, local_objective="tuba", negatives=negatives, score_spread=0.1, **SMALL).double()
    batch = batch._replace(images=batch.images.double())
    torch.nn.init.normal_(model.baselines["local"][-1].weight)
    model.reseed(0, 0)
    found = model.losses(batch).losses["local"]
    slopes = torch.autograd.grad(found, list(model.encoder.parameters()), allow_unused=True)
    model.reseed(0, 0)
    outputs = model.encoder(batch.images)
    positive, negative = contrast(
        model.critics["local"], outputs["y"], outputs["local"], negatives, generator=model.rng
    )
    rows = len(positive) // len(batch.images)
    baseline = torch.cat([model.baselines["local"](code[None]).expand(rows, 1) for code in outputs["y"]])
    expected = -(1 + (positive - baseline).mean() - (negative - baseline).exp().mean())
    torch.testing.assert_close(found, expected)
    for ours, theirs in zip(
        slopes, torch.autograd.grad(expected, list(model.encoder.parameters()), allow_unused=True), strict=True
    ):
        torch.testing.assert_close(ours, theirs)


def test_estimates_are_reported_in_nats_where_they_exist(batch):
    infonce = DeepInfoMax(gamma=0.0, local_objective="infonce", **SMALL).losses(batch)
    jsd = DeepInfoMax(gamma=0.0, local_objective="jsd", **SMALL).losses(batch)
    assert float(infonce.metrics["local_nats"]) == pytest.approx(
        float(-infonce.losses["local"]) + torch.log(torch.tensor(1.0 + 31 * 64)).item(), abs=1e-4
    )
    assert float(infonce.metrics["local_ceiling"]) == pytest.approx(math.log(1 + 31 * 64))
    assert float(infonce.metrics["local_nats"]) <= float(infonce.metrics["local_ceiling"])
    assert not {"local_nats", "local_ceiling"} & set(jsd.metrics)


@pytest.mark.parametrize(("objective", "pairs"), [("infonce", 1 + 2), ("interpolated", 32 * 64), ("dv", 32 * 64)])
def test_the_ceiling_is_a_row_s_for_infonce_alone(batch, objective, pairs):
    metrics = DeepInfoMax(gamma=0.0, local_objective=objective, negatives=2, **SMALL).losses(batch).metrics
    assert float(metrics["local_ceiling"]) == pytest.approx(math.log(pairs))


def test_randomness_is_a_function_of_epoch_and_batch(batch):
    model = DeepInfoMax(gamma=1.0, negatives=2, local_critic="concat", occlusion=True, coordinates="relative", **SMALL)
    losses = []
    for epoch, index in ((0, 0), (0, 0), (0, 1), (1, 0)):
        model.reseed(epoch, index)
        losses.append({name: float(value) for name, value in model.losses(batch).losses.items()})
    assert losses[0] == losses[1]
    for name in ("local", "coordinates", "discriminator"):
        assert len({step[name] for step in losses}) == 3


def test_several_processes_share_what_they_are_told_to(batch, monkeypatch):
    monkeypatch.setattr("dim.models.deep_infomax.distributed.size", lambda: 2)
    assert DeepInfoMax(**SMALL).union
    assert not DeepInfoMax(gather_negatives=False, **SMALL).union
    groups = []

    def in_groups(encoder, rows, size):
        groups.append(size)
        return contextlib.nullcontext()

    monkeypatch.setattr("dim.models.deep_infomax.in_groups", in_groups)
    for union in (True, False):
        DeepInfoMax(ghost_batch=8, union_statistics=union, **SMALL)._seen(batch.images)
    assert groups == [4, 8]  # eight images of both processes, or of each


def test_structure_tasks_add_their_losses(batch):
    model = DeepInfoMax(gamma=0.0, coordinates="absolute", occlusion=True, **SMALL)
    step = model.losses(batch)
    assert set(step.losses) == {"local", "coordinates"}
    assert "coordinates_accuracy" in step.metrics


def test_occlusion_hides_a_part_from_the_code_and_not_from_the_maps(batch, monkeypatch):
    model = DeepInfoMax(occlusion=True, **SMALL)
    boxes = torch.tensor([[4, 8, 20, 16]]).expand(len(batch.images), -1)
    monkeypatch.setattr("dim.models.deep_infomax.random_boxes", lambda *args: boxes)
    hidden = batch.images.clone()
    hidden[:, :, 4:24, 8:24] = 0
    (seen,) = model._seen(batch.images)
    whole, rest = model.encoder(batch.images), model.encoder(hidden)
    assert not torch.allclose(whole["y"], rest["y"])
    assert not torch.allclose(whole["local"], rest["local"])
    torch.testing.assert_close(seen["local"], whole["local"])
    torch.testing.assert_close(seen["y"], rest["y"])


@pytest.mark.parametrize("task", ["absolute", "relative"])
def test_code_and_maps_both_feel_the_coordinates(task, batch, felt):
    model = DeepInfoMax(gamma=0.0, coordinates=task, **SMALL)
    assert felt(model, batch, ["coordinates"]) == {"encoder", "coordinates"}
    outputs = {name: value.detach().requires_grad_() for name, value in model.encoder(batch.images).items()}
    step = Step({}, {})
    model._add_coordinates(step, outputs)
    step.losses["coordinates"].backward()
    assert {name for name, value in outputs.items() if value.grad is not None and value.grad.any()} == {"y", "local"}


@pytest.mark.parametrize("objective", ["tuba", "interpolated"])
def test_learned_baselines_are_trained_with_the_critic(batch, objective):
    model = DeepInfoMax(gamma=0.0, local_objective=objective, negatives=2, local_critic="concat", **SMALL)
    model.losses(batch).losses["local"].backward()
    assert all(p.grad is not None for p in model.baselines.parameters())


def test_multiple_globals_are_each_scored(batch):
    model = DeepInfoMax(gamma=0.1, prior="gaussian", encoder="folded32_globals", code_size=8, units=16)
    small = Batch(batch.images[:4], batch.labels[:4], batch.indices[:4])
    step = model.losses(small)
    with torch.no_grad():
        outputs, critic = model.encoder(small.images), model.critics["local"]
        vectors = outputs["y"].flatten(2)  # (4, 8, 25)
        queries = critic.queries(vectors.permute(0, 2, 1).flatten(0, 1)).unflatten(0, (4, 25))
        table = torch.stack([critic.scores(queries[:, place], critic.keys(outputs["local"])) for place in range(25)])
    terms = []
    for i in range(4):
        others = torch.cat([table[:, i, j] for j in range(4) if j != i], 1).logsumexp(1, keepdim=True)
        terms.append(table[:, i, i] - torch.logaddexp(table[:, i, i], others))
    assert float(step.losses["local"]) == pytest.approx(-float(torch.stack(terms).mean()), abs=1e-4)
    step.losses["local"].backward()
    assert all(p.grad is not None for p in model.encoder.parameters())


def test_with_views_codes_of_each_are_scored_against_maps_of_the_other(batch, monkeypatch):
    model = DeepInfoMax(gamma=0.1, views=True, **SMALL)
    numbers = iter(torch.rand(2, len(batch.images), NUMBERS, generator=torch.Generator().manual_seed(0)))
    drawn = [next(numbers), next(numbers)]
    with monkeypatch.context() as patch:
        left = iter(drawn)
        patch.setattr(model, "random", lambda *args: next(left, torch.rand(2 * len(batch.images), 16)))
        step = model.losses(batch)
    one, other = (model.encoder(random_view(batch.images, each)) for each in drawn)
    values = [infonce(*contrast(model.critics["local"], a["y"], b["local"])) for a, b in ((one, other), (other, one))]
    torch.testing.assert_close(step.losses["local"], -torch.stack(values).mean())
    assert not torch.isclose(
        step.losses["local"], -infonce(*contrast(model.critics["local"], one["y"], one["local"])), rtol=1e-4
    )
    assert step.metrics["local_nats"] == pytest.approx(
        torch.stack(values).mean().item() + math.log(1 + 31 * 64), abs=1e-4
    )
    assert set(step.losses) == {"local", "prior", "discriminator"}


def test_codes_of_both_views_are_matched_to_the_prior(batch, monkeypatch):
    model = DeepInfoMax(gamma=0.1, views=True, **SMALL)
    matched, match_prior = [], adversarial.match_prior
    monkeypatch.setattr(adversarial, "match_prior", lambda *args: matched.append(args[4]) or match_prior(*args))
    model.reseed(0, 0)
    model.losses(batch)
    model.reseed(0, 0)
    torch.testing.assert_close(matched, [torch.cat([outputs["y"] for outputs in model._seen(batch.images)])])
    assert len(matched[0].unique(dim=0)) == 2 * len(batch.images)


@pytest.mark.parametrize("occlusion", [False, True])
def test_codes_of_ghost_batches_come_from_groups_of_images(batch, occlusion, monkeypatch):
    model = DeepInfoMax(gamma=0.0, ghost_batch=8, occlusion=occlusion, **SMALL)
    drawn, random = [], model.random
    monkeypatch.setattr(model, "random", lambda *args: drawn.append(random(*args)) or drawn[-1])
    model.reseed(0, 0)
    (outputs,) = model._seen(batch.images)
    order = drawn[-1].argsort()
    assert order.tolist() != list(range(32))
    seen = occlude(batch.images, drawn[0]) if occlusion else batch.images
    for rows in order.split(8):
        torch.testing.assert_close(outputs["y"][rows], model.encoder(seen[rows])["y"], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(outputs["local"], model.encoder(batch.images)["local"])
    assert not torch.allclose(outputs["y"], model.encoder(seen)["y"], atol=1e-3)


def test_ghost_batches_of_crops_are_of_images(batch):
    model = DeepInfoMax(gamma=0.0, ghost_batch=2, encoder="folded32", **SMALL).double()
    images = batch.images[:4].double()
    reference = copy.deepcopy(model.encoder)
    model.reseed(0, 0)
    order = model.random(lambda n, g: torch.rand(n, generator=g), 4).argsort()
    model.reseed(0, 0)
    codes = model._codes(images, 2)
    torch.testing.assert_close(codes[order], torch.cat([reference(images[rows])["y"] for rows in order.split(2)]))
    torch.testing.assert_close(dict(model.encoder.named_buffers()), dict(reference.named_buffers()))


def test_ghost_batches_are_for_training_alone(batch, monkeypatch):
    model = DeepInfoMax(gamma=0.0, ghost_batch=8, **SMALL).eval()
    with monkeypatch.context() as patch:
        patch.setattr(model, "_codes", lambda *_: pytest.fail("a pass too many"))
        (outputs,) = model._seen(batch.images)
    torch.testing.assert_close(outputs["y"], model.encoder(batch.images)["y"])
    model.check(12, 1, training=False)
    model.check(12, 2, training=True)
    with pytest.raises(UserError, match="ghost_batch is 8: batches of 16 images of 3 processes do not fall"):
        model.check(16, 3, training=True)
    DeepInfoMax(gamma=0.0, ghost_batch=8, union_statistics=False, **SMALL).check(16, 3, training=True)
    with pytest.raises(UserError, match="ghost_batch is 8: batches of 12 images"):
        model.check(12, 1, training=True)
