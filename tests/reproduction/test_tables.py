import io

import pytest
from rich.console import Console

from dim.reproduction import tables

RESULTS = {
    "classifier": {"y": {"accuracy": 70.0, "accuracy_best": 71.0}},
    "mlp": {"conv": {"accuracy_last_k": 60.0}, "y": {"accuracy_last_k": 50.0, "accuracy_last_k_std": 1.0}},
    "svm": {"y": {"accuracy_all_rows": 41.0, "accuracy": 40.0, "accuracy_std": 0.5, "raw": {"accuracy": 39.0}}},
    "knn": {"y": {"accuracy": 33.0}},
    "ndm": {
        "y": {
            "estimate": 2.4,
            "mean_of_last": 2.0,
            "spread": 0.3,
            "ceiling": 9.2,
            "sigmoid": {"estimate": 0.4, "mean_of_last": 0.1, "spread": 0.2},
        }
    },
}


def test_rows_stand_beside_the_paper_s():
    rows = {(r["evaluation"], r["metric"], r["layer"]): r for r in tables.rows(RESULTS, "cifar10", "vae")}
    assert rows["mlp", "accuracy_last_k", "conv"]["published"] == 60.71
    assert rows["mlp", "accuracy_last_k", "conv"]["difference"] == pytest.approx(60 - 60.71)
    assert rows["mlp", "accuracy_last_k", "y"]["ours_std"] == 1.0
    svm = rows["svm", "accuracy", "y"]
    assert (svm["ours"], svm["ours_std"], svm["published"], svm["published_std"]) == (40.0, 0.5, 39.59, 0.01)
    assert (rows["svm", "raw", "y"]["ours"], rows["svm", "raw", "y"]["ours_std"]) == (39.0, None)
    assert rows["knn", "accuracy", "y"]["published"] is None
    assert (rows["ndm", "mean_of_last", "y"]["ours"], rows["ndm", "mean_of_last", "y"]["ours_std"]) == (2.0, 0.3)
    assert rows["ndm", "mean_of_last", "y"]["published"] == 1.62
    assert (rows["ndm", "sigmoid", "y"]["ours"], rows["ndm", "sigmoid", "y"]["ours_std"]) == (0.1, 0.2)
    assert (rows["ndm", "ceiling", "y"]["ours"], rows["ndm", "ceiling", "y"]["published"]) == (9.2, None)
    assert rows["classifier", "accuracy", "y"]["published"] is None


def test_the_supervised_row_is_its_classifier_s():
    rows = tables.rows(RESULTS, "cifar10", "supervised")
    assert rows[0]["published"] == 75.39
    assert all(row["published"] is None for row in rows[1:])


def test_the_printed_table_shows_numbers_and_differences():
    out = io.StringIO()
    tables.print_rows(tables.rows(RESULTS, "cifar10", "vae"), "VAE", Console(file=out, width=120))
    text = out.getvalue()
    assert "60.71" in text
    assert "-0.71" in text
    assert "40.00 ± 0.50" in text


def test_a_row_of_two_tables_stands_beside_both():
    rows = [r for r in tables.rows(RESULTS, "cifar10", "dim_local_infonce") if r["layer"] == "conv"]
    assert [(r["label"], r["published"]) for r in rows] == [
        ("MLP probe, accuracy % (table 1)", 75.21),
        ("MLP probe, accuracy % (table 5)", 77.46),
    ]
    only = [r for r in tables.rows(RESULTS, "cifar10", "dim_local_infonce_occlusion") if r["layer"] == "conv"]
    assert [r["published"] for r in only] == [76.77]


def test_table_4_s_ms_ssim_is_the_authors_variant():
    cells = tables.columns("table4", "vae")
    assert cells["ms_ssim"] == ("decoder", "ssim_authors", "y")
    assert cells["ssim"] == ("decoder", "ssim", "y")
    assert cells["mine"] == ("mine", "train_estimate", "y")
    mine = {"mean_of_last": 1.0, "spread": 0.1, "train_estimate": 2.0, "ceiling": 9.0}
    published = {row["metric"]: row["published"] for row in tables.rows({"mine": {"y": mine}}, "cifar10", "vae")}
    assert published["mean_of_last"] is None
    assert published["train_estimate"] is not None
