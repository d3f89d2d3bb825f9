import copy
from pathlib import Path

import pytest
import torch

from dim import fit
from dim.compiling import compile_parts
from dim.data.loader import Batch, normalise
from dim.models import Autoencoder, DeepInfoMax, Supervised

MODELS = {
    "local": lambda: DeepInfoMax(units=16),
    "drawn": lambda: DeepInfoMax(local_critic="concat", local_objective="jsd", width=16, negatives=1),
    "vae": lambda: Autoencoder(kl_weight=1.0),
}


@pytest.fixture
def batch():
    images = torch.randint(0, 256, (8, 3, 32, 32), dtype=torch.uint8)
    return Batch(normalise(images), torch.arange(8) % 4, torch.arange(8))


@pytest.mark.parametrize("name", MODELS)
def test_parts_compile_to_whole_graphs_that_change_nothing(name, batch):
    plain, compiled = MODELS[name](), MODELS[name]()
    compiled.load_state_dict(plain.state_dict())
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    compile_parts(compiled, backend)
    seen = []
    compiled.encoder.register_forward_hook(lambda module, inputs, outputs: seen.append(outputs["y"]))
    for _ in range(2):
        results = []
        for model in (plain, compiled):
            model.reseed(0, 0)
            model.zero_grad()
            step = model.losses(batch)
            torch.stack(list(step.losses.values())).sum().backward()
            results.append([*step.losses.values(), *(p.grad for p in model.parameters())])
        for a, b in zip(*results, strict=True):
            torch.testing.assert_close(b, a)
    assert len(graphs) == (2 if name == "vae" else 3)  # one for each part, none for the second step
    assert len(seen) == 2
    assert list(compiled.state_dict()) == list(plain.state_dict())
    compiled.eval()(batch.images[:3])
    assert len(graphs) == (2 if name == "vae" else 3)


def test_ghost_batches_have_a_graph_of_their_own(batch):
    plain, graphs = DeepInfoMax(units=16, gamma=0.0, ghost_batch=4), []
    model = copy.deepcopy(plain)
    compile_parts(model, lambda graph, inputs: graphs.append(graph) or graph.forward)
    for step in range(2):
        losses = []
        for each in (plain, model):
            each.reseed(0, step)
            losses.append(each.losses(batch).losses)
        torch.testing.assert_close(losses[1], losses[0])
    torch.testing.assert_close(dict(model.encoder.state_dict()), dict(plain.encoder.state_dict()))
    assert len(graphs) == 4  # the encoder with statistics of 8 and of 4 images, queries, keys


def test_a_break_in_a_graph_is_an_error(batch):
    model = Supervised()
    forward = model.encoder.forward
    model.encoder.forward = lambda images: (torch._dynamo.graph_break(), forward(images))[1]
    compile_parts(model, "eager")
    with pytest.raises(torch._dynamo.exc.Unsupported):
        model.losses(batch)


def test_the_command_compiles_and_its_checkpoints_are_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr("dim.fit.compile_parts", lambda model: compile_parts(model, "eager"))
    config = Path(__file__).parent.parent / "configs/digits/dim_local_infonce.yaml"
    states = []
    for name, compiled in (("plain", "false"), ("compiled", "true")):
        options = ["--data.batch_size", "8", "--model.units", "16", "--trainer.accelerator", "cpu"]
        quick = ["--trainer.max_steps", "2", "--trainer.enable_model_summary", "false", "--codes.images", "0"]
        place = ["--runs", str(tmp_path), "--name", name, "--compile", compiled]
        fit.run("fit", ["--config", str(config), *options, *quick, *place])
        last = torch.load(tmp_path / "digits" / name / "checkpoints/last.ckpt", weights_only=True)
        states.append(last["state_dict"])
    plain, compiled = states
    assert list(plain) == list(compiled)
    for name in plain:
        torch.testing.assert_close(compiled[name], plain[name])
