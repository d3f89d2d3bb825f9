import csv
import json

import pytest

from dim.errors import UserError
from dim.mine.results import Cells

PLAN = [{"rho": rho, "seed": seed} for rho in (0.1, 0.5) for seed in (0, 1)]


def double(calls):
    def measure(setting, progress):
        calls.append(setting)
        progress("half way", 0.5)
        return {"estimate": 2 * setting["rho"], "history": [1, 2]}

    return measure


def test_an_interrupted_experiment_goes_on_where_it_stopped(tmp_path):
    path, calls = tmp_path / "gaussians.json", []

    def interrupted(setting, progress):
        if len(calls) == 3:
            raise KeyboardInterrupt
        return double(calls)(setting, progress)

    with pytest.raises(KeyboardInterrupt):
        Cells(path, {"steps": 10}).run(PLAN, interrupted)
    assert len(json.loads(path.read_text())["cells"]) == 3
    cells = Cells(path, {"steps": 10})
    rows = cells.run(PLAN, double(calls))
    assert calls == PLAN
    assert [(row["rho"], row["seed"], row["estimate"]) for row in rows] == [
        (0.1, 0, 0.2),
        (0.1, 1, 0.2),
        (0.5, 0, 1.0),
        (0.5, 1, 1.0),
    ]
    assert json.loads(path.read_text())["cells"][0]["versions"]["torch"]
    # Asked for less, it gives less and loses nothing.
    assert len(Cells(path, {"steps": 10}).run(PLAN[:1], double(calls))) == 1
    assert len(json.loads(path.read_text())["cells"]) == 4


def test_other_settings_never_mix_and_nothing_is_lost(tmp_path):
    path = tmp_path / "gaussians.json"
    Cells(path, {"steps": 10}).run(PLAN[:2], double([]))
    before, calls = path.read_text(), []
    Cells(path, {"steps": 20}).run(PLAN[:1], double(calls))
    assert calls == PLAN[:1]
    assert (tmp_path / "gaussians.1.json").read_text() == before
    # Asked for again, the first settings' results are there, and so are the second's.
    later = path.read_text()
    assert Cells(path, {"steps": 10}).run(PLAN[:2], double(calls))
    assert calls == PLAN[:1]
    assert path.read_text() == before
    assert [file.read_text() for file in tmp_path.glob("gaussians.*.json")] == [later]
    Cells(path, {"steps": 30}).run(PLAN[:1], double(calls))
    Cells(path, {"steps": 20}).run(PLAN[:1], double(calls))
    assert len(calls) == 2
    assert sorted(json.loads(file.read_text())["identity"]["steps"] for file in tmp_path.iterdir()) == [10, 20, 30]


def test_two_processes_keep_each_other_s_cells(tmp_path):
    path, calls = tmp_path / "gaussians.json", []
    one, other = Cells(path, {"steps": 10}), Cells(path, {"steps": 10})
    one.run(PLAN[:2], double(calls))
    other.run(PLAN[2:], double(calls))
    one.run(PLAN, double(calls))
    assert [cell["setting"] for cell in json.loads(path.read_text())["cells"]] == PLAN
    # What became unreadable in the meantime is moved away, and nothing that was found is lost.
    path.write_text("{")
    one.add({"rho": 0.9, "seed": 0}, {"estimate": 1.0}, 0.1)
    assert len(json.loads(path.read_text())["cells"]) == 5
    assert (tmp_path / "gaussians.1.json").read_text() == "{"


def test_tables_hold_numbers_and_texts(tmp_path):
    cells = Cells(tmp_path / "gaussians.json", {})
    path = cells.write_csv(cells.run(PLAN, double([])))
    rows = list(csv.DictReader(path.open()))
    assert list(rows[0]) == ["rho", "seed", "estimate", "seconds"]
    assert [row["estimate"] for row in rows] == ["0.2", "0.2", "1.0", "1.0"]


def test_progress_tells_cells_and_what_a_cell_does(tmp_path):
    seen = []
    Cells(tmp_path / "a.json", {}).run(PLAN[:2], double([]), lambda *what: seen.append(what), "gaussians")
    assert seen == [("gaussians", 0.0), ("half way", 0.5), ("gaussians", 0.5), ("half way", 0.5), ("gaussians", 1.0)]


@pytest.mark.parametrize("text", ["{", '{"schema_version": 1, "identity": {}}'])
def test_another_file_is_left_alone(tmp_path, text):
    path = tmp_path / "gaussians.json"
    path.write_text(text)
    with pytest.raises(UserError, match="is no file of an experiment"):
        Cells(path, {})
    assert path.read_text() == text
