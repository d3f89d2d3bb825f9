"""Names of encoders and objectives, those of modules of one's own among them: `DIM_IMPORT=my.encoders dim fit ...`.

Such a module registers what it has with `@encoder("NAME")` (dim.networks.encoders), `@objective` (dim.objectives) or
`@source("NAME")` (dim.data.sources). It is imported before anything looks at the names, so that options, `--help`,
evaluation and export know them. Models look at the names, so that it cannot import `dim.models`; a program of one's own
imports it before that.
"""

import importlib
import os
from typing import TYPE_CHECKING, Literal

from dim.errors import UserError
from dim.networks.encoders import ENCODERS
from dim.objectives import OBJECTIVES

VARIABLE = "DIM_IMPORT"


def load(modules: str) -> None:
    """Imports modules given by their names, separated by commas.

    Raises:
        UserError: there is no such module, or it is none, or takes a name that is taken.
    """
    for name in filter(None, (part.strip() for part in modules.split(","))):
        try:
            importlib.import_module(name)
        except (ImportError, SyntaxError, TypeError) as error:
            raise UserError(
                f"{VARIABLE} names the module {name}, which cannot be imported (it must not import dim.models): {error}"
            ) from error


load(os.environ.get(VARIABLE, ""))

if TYPE_CHECKING:
    EncoderName = str
    ObjectiveName = str
else:
    EncoderName = Literal[tuple(ENCODERS)]
    ObjectiveName = Literal[tuple(OBJECTIVES)]
