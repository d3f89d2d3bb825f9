import gc
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))

# Small tensors: a second thread costs more than it gives, and results do not depend on the machine's cores.
torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def _what_is_imported_stays():
    # Else every test's collection, below, walks through all of torch and Lightning.
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _the_process_stays_as_it_was(monkeypatch):
    # Hundreds of runs in one process: what each keeps for its next step would add up.
    monkeypatch.setattr("dim.cpu.platform", SimpleNamespace(libc_ver=lambda: ("", "")))  # nothing is told there
    yield
    torch.set_flush_denormal(False)  # hypothesis draws such numbers too
    gc.collect()


@pytest.fixture
def places(tmp_path):
    """Where `dim reproduce` finds a copy of the configs, so that a test may change them, and keeps its runs."""
    from dim.reproduction.runs import Places

    configs = Path(__file__).parent.parent / "configs"
    for path in configs.rglob("*.yaml"):
        copy = tmp_path / "configs" / path.relative_to(configs)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(path.read_text())
    return Places(tmp_path / "configs", tmp_path / "runs")


@pytest.fixture
def processes(monkeypatch):
    """Replaces what `dim reproduce` starts; how `Children` passes signals on is tested with real processes."""
    from standins import Processes

    from dim.reproduction.children import Children

    stand_in = Processes()
    monkeypatch.setattr(Children, "run", lambda self, *args, **options: stand_in(*args, **options))
    return stand_in
