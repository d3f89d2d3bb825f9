from importlib import metadata

from dim.version import __version__


def test_the_installed_package_has_the_version_of_its_code():
    assert metadata.version("deep-infomax") == __version__
