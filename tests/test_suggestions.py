import pytest

from dim.models import Autoencoder
from dim.monitoring import OnlineProbe
from dim.suggestions import clearer, parameters

GROUPS = {"name": None, "model": None, "probe": OnlineProbe}
CLASS = "Parser key: Problem with given class_path 'dim.models.Autoencoder': Option '{}' is not accepted - Expected"

UNION = (
    "Parser key \"model\": - Does not validate against any of the Union subtypes Subtypes: [<class '{}'>, "
    "<class 'NoneType'>] Errors: - Expected a dot import path string: Given value type: <class 'str'> Given value: {}"
)


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
        ("Unrecognized arguments: --nmae x", "dim fit has no option 'nmae': did you mean 'name'?"),
        (
            "Parser key \"model\": Does not validate ... Errors: - Problem with given class_path 'dim.models.X':\n"
            "    Parser key \"kind\": Expected a typing.Literal['dv', 'infonce']. Got value: infonec\n"
            "  - Expected a <class 'NoneType'> Given value: NestedArg(key='kind', val='infonec')",
            "model.kind is infonec: did you mean 'infonce'?",
        ),
        (
            "Parser key \"batch_size\": Expected a <class 'int'>. Got value: 2.5",
            "batch_size is 2.5: it must be a whole number",
        ),
        (
            'Parser key "trainer.precision": Does not validate against any of the Union subtypes Subtypes: '
            "[typing.Literal[64, 32], typing.Literal['bf16-true', 'bf16-mixed']] Errors: ... Given value: bf16-mixd",
            "trainer.precision is bf16-mixd: did you mean 'bf16-mixed'?",
        ),
        (UNION.format("dim.models.base.Model", "Autoencodr"), "model is Autoencodr: did you mean 'Autoencoder'?"),
        (UNION.format("dim.data.datamodule.ImageData", "Numbers"), "model is Numbers; there are ImageData"),
        ("something else", "something else"),
    ],
)
def test_the_nearest_option_is_named(message, clear):
    assert clearer(message, GROUPS, "dim fit") == clear


def test_options_that_are_handed_on_are_known_too():
    assert {"kl_weight", "encoder", "betas"} <= set(parameters(Autoencoder))
