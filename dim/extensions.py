"""Names of encoders and objectives, those of modules of one's own among them: `DIM_IMPORT=my.encoders dim fit ...`.

Such a module registers what it has with `@encoder("NAME")` (dim.networks.encoders) or `@objective` (dim.objectives). It
is imported before anything looks at the names, so that options, `--help`, evaluation and export know them; the current
folder is searched for it, too. A program of one's own imports it before `dim.models`.
"""

import importlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from dim.errors import UserError
from dim.networks.encoders import ENCODERS
from dim.objectives import OBJECTIVES

VARIABLE = "DIM_IMPORT"


def load(modules: str) -> None:
    """Imports modules given by their names, separated by commas.

    Raises:
        UserError: there is no such module, or one within it.
    """
    for name in filter(None, (part.strip() for part in modules.split(","))):
        if (here := str(Path.cwd())) not in sys.path:
            sys.path.append(here)
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise UserError(f"{VARIABLE} names the module {name}, which cannot be imported: {error}") from error


load(os.environ.get(VARIABLE, ""))

if TYPE_CHECKING:
    EncoderName = str
    ObjectiveName = str
else:
    EncoderName = Literal[tuple(ENCODERS)]
    ObjectiveName = Literal[tuple(OBJECTIVES)]
