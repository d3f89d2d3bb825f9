from pathlib import Path

import pytest

from dim.errors import UserError
from dim.reproduction.published import published
from dim.reproduction.rows import data_of, rows_of, select

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
