import platform
import subprocess
import sys

from dim.allocator import keep_memory


def test_glibc_is_told():
    # In a process of its own: what it does cannot be undone.
    code = "from dim.allocator import keep_memory; print(keep_memory())"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    assert told == str(platform.libc_ver()[0] == "glibc")


def test_elsewhere_nothing_happens(monkeypatch):
    monkeypatch.setattr("dim.allocator.platform", platform)
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    assert keep_memory() is False
