"""A stand-in for the processes that `dim reproduce` starts."""

import json
from pathlib import Path

import torch

from dim.reproduction import runs


class Processes:
    """Does in this process, at once, what `dim fit` and `dim evaluate` leave on disk; `fails` names broken runs."""

    def __init__(self):
        self.calls, self.fails, self.values = [], set(), {}

    @property
    def commands(self):
        return [arguments for arguments, _ in self.calls]

    def __call__(self, command, watch, **options):
        arguments = command[3:]
        self.calls.append((arguments, options["env"]))
        watch()
        folder = Path(arguments[1])
        if arguments[0] == "fit":
            option = {name: arguments[place + 1] for place, name in enumerate(arguments) if name.startswith("--")}
            data = Path(option["--config"] if "budget" not in option["--config"] else arguments[2]).parent.name
            folder = Path(option["--runs"]) / data / option["--name"]
        if any(name in str(folder) for name in self.fails):
            options["stdout"].write(b"dim: error: broken on purpose\n")
            return 2
        self.fit(folder) if arguments[0] == "fit" else self.evaluate(folder, arguments)
        return 0

    def fit(self, folder):
        (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
        torch.save({"of": str(folder)}, folder / "checkpoints" / "last.ckpt")
        (folder / "config.yaml").write_text("as trained")

    def evaluate(self, folder, arguments):
        option = dict(zip(arguments[2::2], arguments[3::2], strict=True))
        protocol, validation = option["--protocol"], int(option.get("--data.validation", 0))
        held_out = {"validation": validation} if validation else {}
        results = {}
        for name in option["--only"].split(","):
            layers = runs.EVALUATIONS[name].layers or ("conv", "fc", "y")
            results[name] = {layer: self.metrics(name, folder, layer) for layer in layers}
        if "supervised" in str(folder) and not validation:
            results["classifier"] = {"y": {"accuracy": self.values.get(folder.name, 70.0)}}
        settings = runs.dataclasses.asdict(runs.PROTOCOLS[protocol])
        content = {
            "identity": {
                "checkpoint_sha256": runs.sha256(folder / "checkpoints" / "last.ckpt"),
                "data": {"source": folder.parent.parent.name, "fingerprint": "0" * 64} | held_out,
                "protocol": {"name": protocol, **settings},
                "seeds": [int(option["--seed"])],
            },
            "global_step": 1,
            "wall_time": {"encoding": 1.0, **dict.fromkeys(results, 10.0)},
            "provenance": {name: {"device": "cpu", "versions": {"commit": "0" * 40}} for name in results},
            "results": results,
        }
        (folder / runs.file_name(protocol, validation)).write_text(json.dumps(content))

    def metrics(self, name, folder, layer):
        value = self.values.get(folder.name, 50.0)
        return {
            "mlp": {"accuracy_last_k": value, "test_accuracies": [value]},
            "svm": {"accuracy": value, "accuracy_std": 0.5, "raw": {"accuracy": value - 1}},
            "decoder": {"ms_ssim": 0.6, "ssim": 0.5, "ssim_authors": 0.4},
            "mine": {"estimate": 1.5, "mean_of_last": 1.0, "spread": 0.1, "train_estimate": 2.0, "ceiling": 9.0},
            "ndm": {
                "estimate": 3.5,
                "mean_of_last": 3.0,
                "spread": 0.5,
                "ceiling": 9.5,
                "sigmoid": {"estimate": 0.4, "mean_of_last": 0.3, "spread": 0.2},
            },
        }.get(name, {"accuracy": value})
