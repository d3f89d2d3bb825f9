"""`dim report` on a real run of digits."""

import json

import pytest

from dim import fit, report
from dim.errors import UserError
from dim.files import sha256
from dim.reproduction import results
from dim.reproduction.budgets import Evaluating
from dim.reproduction.rows import rows_of
from dim.reproduction.runs import plan_run

QUICK = ["--trainer.accelerator", "cpu", "--trainer.devices", "1", "--trainer.max_steps", "2"]


@pytest.fixture
def reproduced(places, processes, tmp_path, monkeypatch):
    """A folder of results whose DIM row has a checkpoint that was really trained, for two steps."""
    rows = rows_of("table1", "digits", places.configs)
    planned = [(row, [plan_run(row, "digits", "demo", 0, Evaluating("quick", ("mlp", "svm")), places)]) for row in rows]

    def train(folder):
        config = str(places.configs / "digits" / f"{folder.parent.name}.yaml")
        where = ["--runs", str(folder.parents[2]), "--name", f"{folder.parent.name}/{folder.name}"]
        fit.run("fit", ["--config", config, *QUICK, *where, "--overwrite", "true"])

    processes.fit = train
    from dim.reproduction.jobs import work

    for row, (run,) in planned:
        if row.config != "supervised":
            assert work(run).status == "done"
    results.write(results.gather("table1", "digits", "demo", planned), tmp_path / "results")
    return places, tmp_path / "results"


def test_the_page_holds_tables_pictures_and_provenance(reproduced, tmp_path):
    places, folder = reproduced
    (folder / "mine").mkdir()
    output = tmp_path / "report"
    page = report.report(folder, places.runs, output, images=60).read_text()
    for section in ("tables", "figures", "neighbours", "maps", "priors", "provenance"):
        assert f'<section id="{section}">' in page
    assert 'id="mine"' not in page
    checkpoint = places.runs / "demo/digits/dim_local_infonce/seed0/checkpoints/last.ckpt"
    assert sha256(checkpoint) in page
    assert "not trained yet" in page
    assert (output / "tables/table1-digits-demo.tex").exists()
    drawn = {path.name: path.stat().st_mtime_ns for path in (output / "figures").glob("map*")}
    assert {name.rpartition(".")[2] for name in drawn} == {"png", "svg"}
    # Drawn again only for another checkpoint.
    report.report(folder, places.runs, output, images=60)
    assert {path.name: path.stat().st_mtime_ns for path in (output / "figures").glob("map*")} == drawn


def test_pictures_are_not_shown_beside_numbers_of_another_checkpoint(reproduced, tmp_path):
    places, folder = reproduced
    checkpoint = places.runs / "demo/digits/dim_local_infonce/seed0/checkpoints/last.ckpt"
    checkpoint.write_bytes(b"another")
    page = report.report(folder, places.runs, tmp_path / "report").read_text()
    assert '<section id="tables">' in page
    assert '<section id="maps">' not in page


def test_tables_stand_where_images_are_not_at_hand(reproduced, tmp_path, monkeypatch):
    def absent(*_, **options):
        raise UserError("no digits in nowhere")

    places, folder = reproduced
    monkeypatch.setattr(report, "load_for_encoder", absent)
    page = report.report(folder, places.runs, tmp_path / "report").read_text()
    assert '<section id="tables">' in page
    assert "Encoders without pictures: " in page
    assert "no digits in nowhere" in page
    assert '<section id="maps">' not in page
    with pytest.raises(UserError, match="images is 0: it must be at least 1"):
        report.report(folder, places.runs, tmp_path / "report", images=0)


def test_without_results_one_line_says_what_to_do(tmp_path):
    with pytest.raises(UserError, match="holds no results yet"):
        report.report(tmp_path, tmp_path, tmp_path / "report")
    (tmp_path / "x.json").write_text(json.dumps({"schema_version": 1}))
    with pytest.raises(UserError, match="no results of dim reproduce"):
        report.report(tmp_path, tmp_path, tmp_path / "report")


def test_reconstructions_are_the_longest_protocol_s_on_the_encoder_s_own_data(tmp_path):
    assert report._reconstructions(tmp_path) is None
    (tmp_path / "evaluation-cifar100-reconstructions-y.png").touch()
    assert report._reconstructions(tmp_path) is None
    for start in ("", "evaluation-standard-", "evaluation-full-"):
        (tmp_path / f"{start}reconstructions-y.png").touch()
        assert report._reconstructions(tmp_path) == tmp_path / f"{start}reconstructions-y.png"
