from pathlib import Path

from dim.data import cache


def test_directory_follows_the_environment(monkeypatch):
    monkeypatch.setenv("DIM_CACHE", "/first")
    monkeypatch.setenv("XDG_CACHE_HOME", "/second")
    monkeypatch.setenv("HOME", "/third")
    assert cache.directory() == Path("/first")
    monkeypatch.delenv("DIM_CACHE")
    assert cache.directory() == Path("/second/deep-infomax")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache.directory() == Path("/third/.cache/deep-infomax")


def test_unknown_key_is_not_there():
    assert cache.read("0" * 64, "x") is None
