from pathlib import Path

import pytest

from dim.errors import UserError
from dim.reproduction.published import published
from dim.reproduction.recipes import parse_options
from dim.reproduction.rows import data_of, name_of, rows_of, select

CONFIGS = Path(__file__).parent.parent.parent / "configs"


def names(rows):
    return [row.name for row in rows]


def test_rows_and_numbers_are_the_paper_s():
    for table in ("table1", "table4", "table5"):
        for data in data_of(table):
            for row, entry in zip(rows_of(table, data, CONFIGS), published()[table][data], strict=True):
                assert {"row": row.label, "config": row.config, **row.published} == entry


def test_data_that_the_paper_leaves_out_have_the_rows_with_a_config():
    rows = rows_of("table1", "digits", CONFIGS)
    assert {row.name for row in rows} == {path.stem for path in (CONFIGS / "digits").glob("*.yaml")} & set(
        names(rows_of("table1", "cifar10", CONFIGS))
    )
    assert not any(row.published for row in rows)
    assert len(rows_of("table4", "cifar100", CONFIGS)) == 7
    with pytest.raises(UserError, match="no row of table1 has a config for mnist"):
        rows_of("table1", "mnist", CONFIGS)


def test_points_of_the_grids_are_what_is_trained():
    for experiment, rows in ((name, rows_of(name, "cifar10", CONFIGS)) for name in ("negatives", "weights")):
        assert len({row.name for row in rows}) == len({row.label for row in rows}) == len(rows)
        for row in rows:
            options = parse_options(row.options).get("model", {}).get("init_args", {})
            place = {key: value for key, value in row.place.items() if key != "objective"}
            assert options == {name: value for name, value in place.items() if value is not None}, (
                experiment,
                row.label,
            )
            if experiment == "negatives":
                assert row.config == f"dim_local_{row.place['objective'].lower()}"
    assert len(rows_of("weights", "cifar10", CONFIGS)) == 3 * 8  # without a term for information there is no row


ROWS = """
rows:
  - label: as it is
    config: dim_local_infonce
  - label: decay 0.5, no prior
    config: dim_local_infonce
    options: {model.weight_decay: 0.5, model.gamma: 0, model.negatives: null, model.whitening: true}
"""


def test_rows_of_one_s_own_are_a_config_and_options(tmp_path):
    path = tmp_path / "decay.yaml"
    path.write_text(ROWS)
    plain, changed = rows_of(str(path), "cifar10", CONFIGS)
    assert (plain.label, plain.name, plain.options) == ("as it is", "dim_local_infonce", ())
    assert plain.published == {"conv": 75.21, "fc": 75.57, "y": 69.13}
    assert (changed.name, changed.published) == ("dim_local_infonce-decay-0.5-no-prior", {})
    assert parse_options(changed.options) == {
        "model": {"init_args": {"weight_decay": 0.5, "gamma": 0, "negatives": None, "whitening": True}}
    }
    assert rows_of(str(path), "digits", CONFIGS)[0].published == {}
    assert (name_of(str(path)), data_of(str(path))) == ("decay", ["cifar10"])
    assert name_of("table1") == "table1"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("some.yaml", "rows: []", "holds no rows"),
        ("some.yaml", "model: {}", "holds no rows"),
        ("some.yaml", "rows: [{label: a}]", "row 1: give label, config"),
        ("some.yaml", "rows: [{label: a, config: vae, seeds: 3}]", "row 1: give label, config"),
        ("some.yaml", "rows: [{label: a, config: vae, options: [1]}]", "row 1: options are NAME: VALUE"),
        ("some.yaml", "rows: [{label: a, config: vae}, {label: b, config: vae}]", "row 2: another row has its runs"),
        ("some.yaml", "rows: [{label: a, config: vae}, {label: a, config: ae}]", "row 2: another row has the label"),
        ("some.yaml", "rows: [{label: '+', config: vae, options: {model.code_size: 8}}]", "a letter or a number"),
        ("some.yaml", "rows: [{label: a, config: vae, options: {seed_everything: 8}}]", "is not an option here"),
        ("some.yaml", "rows: [{label: a, config: vae, options: {config: x.yaml}}]", "--config is no option"),
        ("some.yaml", "rows: {", "is not YAML"),
        ("table1.yaml", ROWS, "name of one of the paper's"),
    ],
)
def test_mistakes_in_rows_are_one_line(name, text, message, tmp_path):
    path = tmp_path / name
    path.write_text(text)
    read = name_of if path.stem == "table1" else lambda file: rows_of(file, "cifar10", CONFIGS)
    with pytest.raises(UserError, match=message) as error:
        read(str(path))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("name", "message"), [("tabel1", "no experiment 'tabel1'"), ("no.yaml", "does not exist")])
def test_an_experiment_that_is_none_is_one_line(name, message):
    with pytest.raises(UserError, match=message):
        name_of(name)


def test_patterns_choose_by_label_or_name_in_the_table_s_order():
    rows = rows_of("table1", "cifar10", CONFIGS)
    assert names(select(rows, "DIM(L)*")) == ["dim_local_dv", "dim_local_jsd", "dim_local_infonce"]
    assert names(select(rows, "dim_*,VAE")) == [
        "vae",
        "dim_global",
        "dim_local_dv",
        "dim_local_jsd",
        "dim_local_infonce",
    ]
    assert select(rows, "*") == rows
    with pytest.raises(UserError, match="no row matches 'vea': Fully supervised, VAE"):
        select(rows, "vea")
