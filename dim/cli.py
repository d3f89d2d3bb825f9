"""The `dim` command: a thin face that finds the right function and prints errors as one line."""

import errno
import sys
import traceback
import warnings
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from dim.errors import UserError, behind
from dim.version import __version__

COMMANDS = {
    "fit": "train a model: dim fit --config configs/cifar10/dim_local_infonce.yaml --data.root DATA",
    "validate": "losses of a checkpoint on the validation split",
    "test": "losses of a checkpoint on the test split",
    "predict": "write an encoder's features of a folder of images to a file: dim predict RUN FOLDER",
    "evaluate": "probes and SVMs on a frozen encoder, with the paper's numbers beside them",
    "export": "the encoder of a run as a file to publish, with its hash and its card",
    "reproduce": "train and evaluate what a table of the paper lacks: dim reproduce table1 --budget cpu --root DATA",
    "report": "all results as one page, tables for papers and figures",
    "mine": "experiments on the mutual information estimator: gaussians, equitability, gan, bottleneck",
}

NO_ROOM = {getattr(errno, name, None) for name in ("ENOSPC", "EDQUOT", "EFBIG", "EROFS")} - {None}
"""Of a disk; who writes what has been opened before does not say to which file."""

HELP = f"""usage: dim [--version] [--help] COMMAND ...

Deep InfoMax (Hjelm et al., ICLR 2019), reproduced.

commands:
{chr(10).join(f"  {name:10} {text}" for name, text in COMMANDS.items())}

dim COMMAND --help lists its options. Results and logs of a run are in runs/DATA/NAME.
"""


def _dispatch(arguments: Sequence[str]) -> None:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(HELP)
    elif arguments[0] == "--version":
        print(f"dim {__version__}")
    elif arguments[0] in ("fit", "validate", "test"):
        from dim import fit

        fit.run(arguments[0], list(arguments[1:]))
    elif arguments[0] in COMMANDS:
        name = "mine.command" if arguments[0] == "mine" else arguments[0]
        import_module(f"dim.{name}").run(list(arguments[1:]))  # late: each imports what it alone needs
    else:
        raise UserError(f"there is no command '{arguments[0]}': one of {', '.join(COMMANDS)}")


def _users_error(error: BaseException) -> BaseException | None:
    """The error about what was asked for behind `error`; None where the program is at fault."""
    if isinstance(error, OSError) and (error.filename is not None or error.errno in NO_ROOM):
        return UserError(f"{error.filename or 'cannot write'}: {error.strerror}")
    if known := behind(error):
        return known
    # Only what is loaded can have raised it; importing it takes seconds.
    fabric = sys.modules.get("lightning_fabric.utilities.exceptions")
    if fabric and isinstance(error, fabric.MisconfigurationException):
        return error
    # Lightning looks at some options only once training begins.
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    by_lightning = frame.f_globals.get("__name__", "").startswith("pytorch_lightning.")
    return error if by_lightning and isinstance(error, ValueError) else None


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line; exits with status 2 and one line on standard error if it cannot be done."""
    # Lightning calls names that jsonargparse has deprecated since 4.49.
    warnings.filterwarnings("ignore", category=DeprecationWarning, module="jsonargparse")
    if (here := str(Path.cwd())) not in sys.path and "" not in sys.path:
        sys.path.append(here)  # for modules of one's own, as `python -m dim` has it
    try:
        _dispatch(sys.argv[1:] if arguments is None else arguments)
    except KeyboardInterrupt:
        _leave(130, said := "dim: interrupted")
        print(said, file=sys.stderr)
        sys.exit(130)
    except SystemExit as stopped:
        if isinstance(stopped.code, int) and stopped.code:
            _leave(stopped.code)
        raise
    except Exception as error:
        mistake = _users_error(error)
        if mistake is None:
            _leave(1, traceback.format_exc())
            raise
        sys.stdout.flush()  # in a file that both go to, the error comes last
        said = f"dim: error: {' '.join(str(mistake).split())}"
        _leave(2, said)
        print(said, file=sys.stderr)
        sys.exit(2)


def _leave(status: int, said: str = "") -> None:
    """Ends this process here if it is one of several that would wait for each other at the usual end."""
    if "torch" in sys.modules:  # importing it takes seconds
        from dim import distributed

        distributed.leave(status, said)
