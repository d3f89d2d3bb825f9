import platform
import subprocess
import sys

import pytest

from dim import cpu


def printed(code):
    """In a process of its own: what is told there cannot be undone."""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_glibc_is_told():
    told = printed("from dim.cpu import keep_memory; print(keep_memory())")
    assert told == str(platform.libc_ver()[0] == "glibc")


def test_elsewhere_nothing_happens(monkeypatch):
    monkeypatch.setattr("dim.cpu.platform", platform)
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    assert cpu.keep_memory() is False


PRODUCT = """
import torch
from dim import cpu
{tell}
torch.set_num_threads(2)
small = torch.full((1 << 20,), 2.0**-120).mul(2.0**-20)
print(small.view(torch.int32).count_nonzero().item())
"""


@pytest.mark.parametrize(("tell", "left"), [("", 1 << 20), ("cpu.tune()", 0)])
def test_denormals_are_zero_in_all_threads(tell, left):
    if tell and printed("from dim.cpu import flush_denormals; print(flush_denormals())") != "True":
        pytest.skip("this processor cannot flush denormal numbers")
    assert printed(PRODUCT.format(tell=tell)) == str(left)
