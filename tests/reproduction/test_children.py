import signal
import subprocess
import sys
import threading
import time

import pytest

from dim.reproduction.children import Children

WAITS = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: (print("saved", flush=True), sys.exit(143)))
print("ready", flush=True)
time.sleep(60)
"""


def until(condition, seconds=30):
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.02)


def test_a_signal_reaches_the_child_and_its_status_comes_back(tmp_path):
    children, output = Children(), tmp_path / "output"
    with output.open("wb") as file:
        statuses = []
        command = [sys.executable, "-c", WAITS]
        thread = threading.Thread(target=lambda: statuses.append(children.run(command, lambda: None, stdout=file)))
        thread.start()
        until(lambda: output.read_text() == "ready\n")
        children.stop(signal.SIGTERM)
        thread.join()
    assert statuses == [143]
    assert output.read_text() == "ready\nsaved\n"
    assert children.run([sys.executable, "-c", ""], lambda: None) == -signal.SIGTERM


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child that its parent is gone")
def test_a_child_whose_parent_is_killed_saves_and_stops(tmp_path):
    output = tmp_path / "output"
    parent = f"""
import sys
from dim.reproduction.children import Children
with open({str(output)!r}, "wb") as file:
    Children().run([sys.executable, "-c", {WAITS!r}], lambda: None, stdout=file)
"""
    process = subprocess.Popen([sys.executable, "-c", parent])
    until(lambda: output.exists() and output.read_text() == "ready\n")
    process.kill()
    process.wait()
    until(lambda: output.read_text() == "ready\nsaved\n")
