import platform

from dim.allocator import keep_memory


def test_glibc_is_told():
    assert keep_memory() == (platform.libc_ver()[0] == "glibc")


def test_elsewhere_nothing_happens(monkeypatch):
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    assert keep_memory() is False
