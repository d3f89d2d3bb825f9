"""What only a GPU can show, and skipped without one: `pytest tests/test_cuda.py`. Not passed on any machine so far.

Everything else about GPUs is tested without one, in `test_gpu_paths.py`.
"""

import json
import os

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from dim import checkpoints, evaluate, fit

GPU = os.environ.get("DIM_TEST_ACCELERATOR", "gpu")
"""`cpu` shows that the tests themselves are sound."""
DEVICE = "cuda" if GPU == "gpu" else GPU
pytestmark = pytest.mark.skipif(GPU == "gpu" and not torch.cuda.is_available(), reason="there is no GPU")

DATA = "--data ImageData --data.source digits --data.batch_size 32"
TRAINER = "--trainer.devices 1 --trainer.enable_model_summary false --trainer.max_steps 4 --trainer.log_every_n_steps 1"
CALLBACKS = "--codes.images 0 --pictures.every_n_epochs 0"
MODELS = {
    "local": "DeepInfoMax --model.units 64",
    "global": "DeepInfoMax --model.alpha 1 --model.beta 0 --model.width 32",
    "table 5": "DeepInfoMax --model.units 64 --model.coordinates relative --model.occlusion true",
    "drawn": "DeepInfoMax --model.local_critic concat --model.local_objective jsd --model.width 32 --model.negatives 2",
    "views": "DeepInfoMax --model.units 64 --model.views true",
    "ghost": "DeepInfoMax --model.units 64 --model.ghost_batch 8",
    "vae": "Autoencoder --model.kl_weight 1",
    "aae": "AdversarialAutoencoder",
    "bigan": "BiGAN",
    "nat": "NoiseAsTargets --model.period 1",
    "supervised": "Supervised --model.whitening true --model.weight_decay 0.1",
}


def losses(runs, accelerator, model, *options):
    words = f"{DATA} {TRAINER} {CALLBACKS} --model {MODELS[model]} --trainer.accelerator {accelerator}".split()
    fit.run("fit", [*words, "--runs", str(runs), *options])
    events = EventAccumulator(str(runs / "digits" / "run" / "logs")).Reload()
    return torch.tensor([event.value for event in events.Scalars("train/loss")])


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("model", MODELS)
def test_a_gpu_begins_as_a_cpu_does(model, precision, tmp_path):
    here = losses(tmp_path / "gpu", GPU, model, "--trainer.precision", precision)
    there = losses(tmp_path / "cpu", "cpu", model)
    assert len(here) == 4
    assert here.isfinite().all()
    # One step: later ones amplify rounding. TF32 keeps ten bits of a factor, bfloat16 seven.
    assert here[0].item() == pytest.approx(there[0].item(), rel=0.01 if precision == "32-true" else 0.1)


def test_a_run_goes_on_and_is_evaluated_alike_on_both(tmp_path):
    losses(tmp_path, GPU, "local")
    more = ["--trainer.max_steps", "8", "--ckpt_path", "last"]
    assert len(losses(tmp_path, GPU, "local", *more)) >= 4
    run, found = tmp_path / "digits" / "run", {}
    assert checkpoints.read_checkpoint(run)["global_step"] == 8
    for device in (DEVICE, "cpu"):
        output = tmp_path / f"{device}.json"
        words = ["--only", "mlp,svm,linear,knn", "--layers", "y", "--device", device]
        evaluate.run([str(run), *words, "--output", str(output)])
        found[device] = json.loads(output.read_text())["results"]
    for name in ("svm", "linear"):
        assert all(results[name]["y"]["converged"] for results in found.values())
    for name, results in found[DEVICE].items():
        assert results["y"]["accuracy"] == pytest.approx(found["cpu"][name]["y"]["accuracy"], abs=2.0), name


def test_compiled_parts_learn_the_same(tmp_path):
    plain, compiled = (losses(tmp_path / word, GPU, "local", "--compile", word) for word in ("false", "true"))
    assert compiled[0].item() == pytest.approx(plain[0].item(), rel=0.01)
