import gc
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))

# Small tensors: a second thread costs more than it gives, and results do not depend on the machine's cores.
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _memory_is_given_back(monkeypatch):
    # Hundreds of runs in one process: what each keeps for its next step would add up.
    monkeypatch.setattr("dim.fit.keep_memory", lambda: False)
    monkeypatch.setattr("dim.evaluate.keep_memory", lambda: False)
    yield
    gc.collect()
