import pytest
from test_views import CONTENT

from dim.reporting import charts


def seed(number, **cells):
    made = {"checkpoint_sha256": f"{number}", "training_seconds": 60.0 * number}
    return {"seed": 0, "cells": {name: {"value": value} for name, value in cells.items()}, "provenance": made}


def content(*rows, experiment="table1"):
    return {**CONTENT, "experiment": experiment, "rows": list(rows)}


VAE = {
    **CONTENT["rows"][0],
    "seeds": [seed(3, **{"mlp/accuracy_last_k/y": 50.0, "svm/accuracy/y": 45.0})],
}


def points(axis):
    return {(line.get_xdata()[0], line.get_ydata()[0]) for line in axis.lines if len(line.get_xdata()) == 1}


def test_accuracy_stands_at_its_epochs_and_minutes():
    otherwise = {**VAE, "seeds": [seed(3, **{"mlp/accuracy_last_k/y": 53.0})]}
    held_out = {**VAE, "seeds": [seed(4, **{"mlp/accuracy_last_k/y": 40.0})]}
    tables = [content(VAE), content(otherwise, experiment="table4"), {**content(held_out), "validation": 5000}]
    by_epochs, by_time = charts.cost(tables).axes
    assert points(by_epochs) == {(2, 50.0)}  # of one encoder the first table's
    assert points(by_time) == {(3.0, 50.0)}


def test_colours_are_of_methods_whatever_their_rows_are_called():
    methods = ("dim_local_infonce", "dim_global", "supervised", "bigan")
    assert len({charts.colour(config) for config in methods}) == 4
    row = {**VAE, "row": "DIM", "config": "dim_local_infonce_occlusion"}
    by_epochs, _ = charts.cost([content(row, experiment="table5")]).axes
    assert by_epochs.lines[0].get_color() == charts.colour("dim_local_dv")


def test_ours_and_published_stand_on_the_row_s_line():
    conv, fc, _ = charts.against_published(content(VAE)).axes
    assert points(conv) == {(60.71, 0), (50.71, 0)}
    assert points(fc) == {(60.54, 0)}


def test_probes_stand_beside_each_other_where_both_exist():
    *_, y = charts.svm_beside_mlp(content(VAE)).axes
    assert points(y) == {(50.0, 0), (45.0, 0)}


def test_grids_become_lines_and_maps():
    def row(value, **place):
        deviation = 2.0 if place.get("objective") == "JSD" else None
        ours = {layer: {"mean": value, "std": deviation} for layer in ("conv", "fc", "y")}
        return {**VAE, "place": place, "ours": ours}

    rows = [row(40.0 + n, objective=name, negatives=n) for name in ("DV", "JSD") for n in (16, 1)]
    axis = charts.negatives(content(*rows, experiment="negatives")).axes[0]
    assert [list(line.lines[0].get_xdata()) for line in axis.containers] == [[1, 16], [1, 16]]
    assert [list(line.lines[0].get_ydata()) for line in axis.containers] == [[41, 56], [41, 56]]
    bars = [[segment[:, 1].tolist() for segment in line.lines[2][0].get_segments()] for line in axis.containers]
    assert bars == [[[41, 41], [56, 56]], [[39, 43], [54, 58]]]
    rows = [row(10 * alpha + beta, alpha=alpha, beta=beta, gamma=0.1) for alpha in (0, 1) for beta in (0, 2)]
    (axis,) = charts.weights(content(*rows, experiment="weights")).axes
    assert axis.images[0].get_array().tolist() == [[0, 2], [10, 12]]


@pytest.mark.parametrize("draw", [charts.against_published, charts.svm_beside_mlp, *charts.GRIDS.values()])
def test_without_numbers_there_is_no_figure(draw):
    empty = {**CONTENT["rows"][0], "ours": {}, "seeds": []}
    assert draw(content(empty)) is None
    assert charts.cost([content(empty)]) is None
