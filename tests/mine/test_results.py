import csv
import json
import threading

import pytest

from dim import results
from dim.errors import UserError
from dim.files import locked
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


def test_what_another_process_has_measured_meanwhile_is_not_measured_again(tmp_path):
    path, calls = tmp_path / "gaussians.json", []

    def meanwhile(setting, progress):
        if not calls:
            Cells(path, {"steps": 10}).add(PLAN[2], {"estimate": 7.0}, 0.0)
        return double(calls)(setting, progress)

    rows = Cells(path, {"steps": 10}).run(PLAN, meanwhile)
    assert calls == [PLAN[0], PLAN[1], PLAN[3]]
    assert rows[2]["estimate"] == 7.0


def test_other_settings_never_mix_and_nothing_is_lost(tmp_path):
    path = tmp_path / "gaussians.json"
    Cells(path, {"steps": 10}).run(PLAN[:2], double([]))
    before, calls = json.loads(path.read_text()), []
    Cells(path, {"steps": 20}).run(PLAN[:1], double(calls))
    assert calls == PLAN[:1]
    assert json.loads((tmp_path / "gaussians.1.json").read_text()) == {**before, "aside_of": "gaussians.json"}
    # Asked for again, the first settings' results are there, and so are the second's.
    again = Cells(path, {"steps": 10})
    assert [row["estimate"] for row in again.run(PLAN[:2], double(calls))] == [0.2, 0.2]
    assert calls == PLAN[:1]
    again.write()
    assert json.loads(path.read_text()) == before
    assert [json.loads(file.read_text())["identity"] for file in tmp_path.glob("gaussians.?.json")] == [{"steps": 20}]


def test_processes_with_different_settings_in_turn_leave_one_file_for_each(tmp_path):
    path, calls = tmp_path / "gaussians.json", []
    ten, twenty = Cells(path, {"steps": 10}), Cells(path, {"steps": 20})
    for setting in PLAN:
        ten.run([setting], double(calls))
        twenty.run([setting], double(calls))
    files = [json.loads(file.read_text()) for file in tmp_path.glob("*.json")]
    assert sorted(file["identity"]["steps"] for file in files) == [10, 20]
    assert all([cell["setting"] for cell in file["cells"]] == PLAN for file in files)


def test_a_file_that_was_not_put_aside_here_is_left_alone(tmp_path):
    # Numbered by its user, with the same settings.
    Cells(tmp_path / "gaussians.2024.json", {"steps": 10}).run(PLAN[:1], double([]))
    before = (tmp_path / "gaussians.2024.json").read_text()
    calls = []
    Cells(tmp_path / "gaussians.json", {"steps": 10}).run(PLAN[:1], double(calls))
    assert calls == PLAN[:1]
    assert (tmp_path / "gaussians.2024.json").read_text() == before


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


def test_who_writes_while_another_does_waits(tmp_path, monkeypatch):
    path = tmp_path / "gaussians.json"
    one, other = Cells(path, {}), Cells(path, {})
    arrived, threads, write, lock = threading.Event(), [], results.write_json, results.locked

    def asked(*arguments):
        if threads:
            arrived.set()  # at the lock, which is the first writer's
        return lock(*arguments)

    def slow(*arguments):
        if not threads:
            threads.append(threading.Thread(target=other.add, args=(PLAN[1], {"estimate": 2.0}, 0.0)))
            threads[0].start()
            assert arrived.wait(60)
            threads[0].join(0.2)  # without a lock it would write now, and be written over
        write(*arguments)

    monkeypatch.setattr(results, "write_json", slow)
    monkeypatch.setattr(results, "locked", asked)
    one.add(PLAN[0], {"estimate": 1.0}, 0.0)
    threads[0].join()
    assert [cell["setting"] for cell in json.loads(path.read_text())["cells"]] == PLAN[:2]


def test_who_cannot_get_the_lock_does_not_write(tmp_path, monkeypatch):
    path = tmp_path / "gaussians.json"
    cells = Cells(path, {})
    monkeypatch.setattr(results, "LOCK_SECONDS", 0.0)
    with locked(path, 0.0), pytest.raises(UserError, match="is being written by another process"):
        cells.add(PLAN[0], {"estimate": 1.0}, 0.0)
    assert not path.exists()
    cells.add(PLAN[0], {"estimate": 1.0}, 0.0)
    assert path.exists()


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
