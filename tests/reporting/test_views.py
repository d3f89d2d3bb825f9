from pathlib import Path

import pytest
import yaml

from dim.reporting.views import SETTINGS, Cell, in_order, view

CONTENT = {
    "schema_version": 1,
    "experiment": "table1",
    "data": "cifar10",
    "budget": {"name": "cpu", "about": "a few epochs"},
    "protocol": {"name": "quick"},
    "rows": [
        {
            "row": "VAE",
            "config": "vae",
            "name": "vae",
            "epochs": 2,
            "published": {"conv": 60.71, "fc": 60.54, "y": 54.61},
            "ours": {"conv": {"mean": 50.71, "std": 1.5, "over": "2 seeds"}, "y": {"mean": 84.61, "std": None}},
            "seeds": [{"seed": 0, "cells": {}, "note": "not trained yet"}],
        }
    ],
}


def test_cells_hold_ours_the_paper_s_and_the_difference_with_its_shade():
    table = view(CONTENT)
    (row,) = table.rows
    cells = row.cells
    assert (row.label, row.cost, row.note) == ("VAE", ("2", "", "0"), "not trained yet")
    assert list(table.columns) == ["conv", "fc", "y"]
    assert cells["conv"].difference == pytest.approx(-10)
    assert cells["conv"].shade == pytest.approx(-0.5)
    assert (cells["conv"].text, cells["conv"].published_text) == ("50.71 ± 1.50", "60.71")
    assert cells["y"].shade == 1.0
    assert cells["fc"] == Cell(None, None, 60.54)
    assert cells["fc"].difference is None
    assert table.finished == 1


def test_the_cost_is_the_finished_seeds_mean():
    seeds = [
        {"cells": {"y": {}}, "note": "", "provenance": {"training_seconds": s, "config": {}}}
        for s in (60.0, 90.0, 300.0)
    ]
    content = {**CONTENT, "rows": [{**CONTENT["rows"][0], "seeds": [*seeds, *CONTENT["rows"][0]["seeds"]]}]}
    assert view(content).rows[0].cost == ("2", "2.5", "3")


def test_a_table_says_how_its_rows_were_trained():
    def seed(epochs, **model):
        config = {"trainer": {"max_epochs": epochs}, "model": {"init_args": {"learning_rate": 0.001, **model}}}
        return {"cells": {"y": {}}, "note": "", "provenance": {"config": config, "training_seconds": 60.0}}

    seeds = [seed(8), seed(8), seed(8, units=256, alpha=1.0)]
    table = view({**CONTENT, "rows": [{**CONTENT["rows"][0], "seeds": seeds}, CONTENT["rows"][0]]})
    said = (
        "Trained with max_epochs 8, learning_rate 0.001; 1 of 3 runs with units 256. Evaluated by the quick protocol."
    )
    assert table.about == said
    assert view(CONTENT).about == "A few epochs. Evaluated by the quick protocol."
    seeds = [seed(8, units=256), seed(8, weight_decay=0.5), seed(8)]
    changed = {**CONTENT, "budget": {**CONTENT["budget"], "options": ["--model.gamma", "0"]}}
    table = view({**changed, "rows": [{**CONTENT["rows"][0], "seeds": seeds}]})
    assert "; 1 of 3 runs with weight_decay 0.5; 1 of 3 runs with units 256." in table.about
    assert table.about.endswith("Changed by --model.gamma 0.")


@pytest.mark.parametrize("experiment", ["table1", "table4"])
def test_a_table_says_if_it_is_of_held_out_images(experiment):
    row = {**CONTENT["rows"][0], "published": {}, "ours": {}}
    table = view({**CONTENT, "experiment": experiment, "validation": 5000, "rows": [row]})
    assert table.title.endswith("; 5000 held-out training images")
    assert "test" not in table.title
    assert "error of the paper" not in table.about


def test_more_nats_are_neither_better_nor_worse():
    content = {**CONTENT, "experiment": "table4"}
    row = {"row": "VAE", "config": "vae", "epochs": 2, "seeds": []}
    content["rows"] = [{**row, "published": {"mine": 93.02}, "ours": {"mine": {"mean": 3.0, "std": None}}}]
    cell = view(content).rows[0].cells["mine"]
    assert cell.difference == pytest.approx(-90.02)
    assert cell.shade is None


def test_what_the_paper_s_columns_need_to_be_read_stands_beside_them_where_it_was_measured():
    row = {"row": "NAT", "config": "nat", "epochs": 2, "seeds": [], "published": {"ms_ssim": 0.29, "mine": 6.04}}
    row["ours"] = {"ms_ssim": {"mean": 0.3}, "ssim": {"mean": 0.2}, "mine_ceiling": {"mean": 9.21}}
    table = view({**CONTENT, "experiment": "table4", "rows": [row]})
    published = ["svm_conv", "svm_fc", "svm_y", "ms_ssim", "mine", "ndm", "ndm_sigmoid"]
    assert [column for column in table.columns if column in published] == published
    assert [column for column in table.columns if column not in published] == ["ssim", "mine_ceiling"]
    assert "most likely an error of the paper" in table.about
    assert "error" not in view(CONTENT).about


def test_the_order_of_reading():
    def content(experiment, data, budget):
        return {"experiment": experiment, "data": data, "budget": {"name": budget}}

    order = [
        content("table1", "cifar10", "paper"),
        content("table1", "cifar10", "smoke"),
        content("table1", "digits", "demo"),
        content("table4", "cifar10", "cpu"),
    ]
    assert in_order(order[::-1]) == order


def test_what_budgets_change_is_told():
    def settings(content, path=""):
        if not isinstance(content, dict):
            return {path}
        return {name for key, value in content.items() for name in settings(value, f"{path}.{key}" if path else key)}

    budgets = (Path(__file__).parent.parent.parent / "configs/budget").glob("*.yaml")
    changed = set().union(*(settings(yaml.safe_load(path.read_text())) for path in budgets))
    assert changed - {"trainer.log_every_n_steps"} <= set(SETTINGS)


def test_what_is_missing_of_a_row_that_has_numbers_names_its_seeds():
    seeds = [
        {"seed": 0, "cells": {"y": {}}, "note": "", "provenance": {"training_seconds": 1.0, "config": {}}},
        *({"seed": seed, "cells": {}, "note": "not trained yet"} for seed in (1, 2)),
    ]
    (row,) = view({**CONTENT, "rows": [{**CONTENT["rows"][0], "seeds": seeds}]}).rows
    assert row.note == "seeds 1, 2: not trained yet"
