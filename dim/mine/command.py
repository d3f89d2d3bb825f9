"""`dim mine`: the experiments of MINE from the command line; an experiment's signature is its command line."""

import importlib

from dim.errors import UserError

EXPERIMENTS = {
    "gaussians": "estimators against the truth on correlated Gaussians",
    "equitability": "one relation in three shapes under noise, against the truth",
    "gan": "a GAN with and without MINE, and the modes that each covers: 25 Gaussians or a spiral",
    "bottleneck": "the information bottleneck on MNIST",
}
"""Name and help of each: the function NAME in dim/mine/experiments/NAME.py. To add one, write it and add a line."""

HELP = f"""usage: dim mine EXPERIMENT [options]

The experiments of MINE (Belghazi et al., ICML 2018).

experiments:
{chr(10).join(f"  {name:13} {text}" for name, text in EXPERIMENTS.items())}

dim mine EXPERIMENT --help lists its options. Tables, results and plots go to results/mine; run again, an experiment
does only what is missing there.
"""


def run(arguments: list[str]) -> None:
    """Runs `dim mine ARGUMENTS`."""
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(HELP)
        return
    name, *options = arguments
    if name not in EXPERIMENTS:
        raise UserError(f"there is no experiment '{name}': one of {', '.join(EXPERIMENTS)}")
    from dim import cpu
    from dim.parsing import parse

    cpu.tune()
    function = getattr(importlib.import_module(f"dim.mine.experiments.{name}"), name)
    function(**parse(f"dim mine {name}", function, options))
