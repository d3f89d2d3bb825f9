import pytest

from dim.models import Autoencoder
from dim.monitoring import OnlineProbe
from dim.suggestions import clearer, parameters

GROUPS = {"name": None, "model": None, "probe": OnlineProbe}
CLASS = "Parser key: Problem with given class_path 'dim.models.Autoencoder': Option '{}' is not accepted - Expected"


@pytest.mark.parametrize(
    ("message", "clear"),
    [
        (CLASS.format("kl_wieght"), "Autoencoder has no option 'kl_wieght': did you mean 'kl_weight'?"),
        (CLASS.format("lerning_rate"), "Autoencoder has no option 'lerning_rate': did you mean 'learning_rate'?"),
        (
            "Subcommand 'fit' does not accept option 'probe.layer'",
            "dim fit has no option 'probe.layer': did you mean 'probe.layers'?",
        ),
        (
            "Subcommand 'fit' does not accept option 'modl.alpha'",
            "dim fit has no option 'modl.alpha': did you mean 'model'?",
        ),
        (
            "Subcommand 'fit' does not accept option 'zzz'",
            "dim fit has no option 'zzz'; there are name, model, probe",
        ),
        ("something else", "something else"),
    ],
)
def test_the_nearest_option_is_named(message, clear):
    assert clearer(message, GROUPS) == clear


def test_options_that_are_handed_on_are_known_too():
    assert {"kl_weight", "encoder", "betas"} <= set(parameters(Autoencoder))
