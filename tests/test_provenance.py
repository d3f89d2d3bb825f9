import torch

from dim.provenance import versions
from dim.version import __version__


def test_versions_of_what_numbers_depend_on():
    found = versions()
    assert found["deep-infomax"] == __version__
    assert found["torch"] == torch.__version__.split("+")[0]
    assert all(isinstance(version, str) for version in found.values())
