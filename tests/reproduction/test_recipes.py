import pytest

from dim.errors import UserError
from dim.reproduction.recipes import differences, get, merge, parse_options, read_config


def test_options_become_the_config_that_they_stand_for():
    options = ["--model.negatives", "4", "--trainer.max_epochs=2", "--model.init_args.alpha", "0.5", "--name", "x"]
    assert parse_options(options) == {
        "model": {"init_args": {"negatives": 4, "alpha": 0.5}},
        "trainer": {"max_epochs": 2},
        "name": "x",
    }
    assert parse_options(["--data.root", "a=b"]) == {"data": {"init_args": {"root": "a=b"}}}


def test_the_later_config_wins_where_both_speak():
    base = {"model": {"class_path": "M", "init_args": {"a": 1, "b": 2}}, "name": "x"}
    assert merge(base, {"model": {"init_args": {"b": 3}}}) == {
        "model": {"class_path": "M", "init_args": {"a": 1, "b": 3}},
        "name": "x",
    }
    assert base["model"]["init_args"]["b"] == 2


def test_differences_are_named_whether_changed_added_or_removed():
    ours = {"model": {"a": 1, "b": 2}, "name": "x"}
    assert differences(ours, {"model": {"a": 1, "b": 2}, "name": "x"}) == []
    assert differences(ours, {"model": {"a": 3, "c": 4}, "name": "x"}) == ["model.a", "model.b", "model.c"]
    assert get(ours, "model.b") == 2
    assert get(ours, "model.b.c", "none") == "none"


@pytest.mark.parametrize("text", ["- a\n- b\n", "a: [1\n"])
def test_what_is_no_config_is_refused(tmp_path, text):
    path = tmp_path / "x.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=r"x\.yaml is not"):
        read_config(path)


def test_files_behind_the_lone_dashes_are_refused():
    with pytest.raises(UserError, match="--config is no option here"):
        parse_options(["--config", "mine.yaml"])
