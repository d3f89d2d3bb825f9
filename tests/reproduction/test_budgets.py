from pathlib import Path

import pytest

from dim.reproduction.budgets import BUDGETS, budget_configs
from dim.reproduction.recipes import read_config

CONFIGS = Path(__file__).parent.parent.parent / "configs"


@pytest.mark.parametrize(
    ("config", "cpu"),
    [
        ("supervised", ["cpu"]),
        ("nat", ["cpu"]),
        # A global concatenation critic scores all pairs: 64 x 64 of them cost little.
        ("dim_global", ["cpu"]),
        ("dim_local_infonce", ["cpu", "cpu_dim"]),
        ("dim_local_infonce_coordinates_occlusion", ["cpu", "cpu_dim"]),
        ("dim_local_concat_jsd", ["cpu", "cpu_concat"]),
        ("dim_local_global", ["cpu", "cpu_concat"]),
    ],
)
def test_configs_of_a_budget_follow_from_the_row_s_critics(config, cpu):
    content = read_config(CONFIGS / f"cifar10/{config}.yaml")
    assert budget_configs(BUDGETS["cpu"], content) == cpu
    assert budget_configs(BUDGETS["smoke"], content) == [*cpu, "smoke"]
    assert budget_configs(BUDGETS["sitting"], content) == [*cpu, "twenty", *(["sitting"] if "cpu_dim" in cpu else [])]
    assert budget_configs(BUDGETS["demo"], content) == ["demo", *cpu[1:]]
    assert budget_configs(BUDGETS["paper"], content) == []


def test_unsaid_critics_are_the_signature_s():
    assert "cpu_dim" in budget_configs(BUDGETS["cpu"], {"model": {"class_path": "dim.models.DeepInfoMax"}})


@pytest.mark.parametrize("budget", BUDGETS.values(), ids=list(BUDGETS))
def test_every_file_of_a_budget_exists(budget):
    assert all((CONFIGS / "budget" / f"{name}.yaml").is_file() for _, name in budget.configs)
