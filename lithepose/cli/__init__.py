"""The command line: a table of plain functions that return the exit code, one file a command."""

from __future__ import annotations

import inspect
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from types import NoneType
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import tyro

from ..errors import LitheposeError
from ._console import OK, STOPPED, UNUSABLE, err_console, out_console
from .analyze import complexity, receptive_field
from .benchmark import benchmark
from .demo import demo
from .evaluate import evaluate
from .export import export
from .merge import merge
from .models import models
from .predict import predict
from .train import train


def analyze() -> int:
    """Count a network's parameters and multiply-adds, or draw its receptive field: `lithepose analyze --help`."""
    raise AssertionError("main runs its own commands")


COMMANDS: dict[str, Callable[..., int]] = {
    "demo": demo,
    "predict": predict,
    "merge": merge,
    "models": models,
    "evaluate": evaluate,
    "benchmark": benchmark,
    "train": train,
    "export": export,
    "analyze": analyze,
}
ANALYZE = {"complexity": complexity, "receptive-field": receptive_field}


def plain_help(command: Callable[..., int]) -> Callable[..., int]:
    """The command with a shorter help text: inputs have a plain name, and empty defaults are left out."""
    hints, parameters = get_type_hints(command), inspect.signature(command).parameters
    described: dict[str, Any] = {}
    for name, parameter in parameters.items():
        positional = parameter.kind == parameter.POSITIONAL_ONLY
        silent = positional or parameter.default in (None, "", 0, (), False)
        options: dict[str, Any] = {"help_behavior_hint": ""} if silent else {}
        kinds = [kind for kind in get_args(hints[name]) if kind is not NoneType]
        if positional:
            one = name.upper().removesuffix("S")
            options["metavar"] = f"{one} [{one} ...]" if get_origin(hints[name]) is tuple else one
        elif NoneType in get_args(hints[name]) and len(kinds) == 1 and isinstance(kinds[0], type):
            options["metavar"] = kinds[0].__name__.upper()
        described[name] = Annotated[hints[name], tyro.conf.arg(**options)]

    def shown(*given: Any, **named: Any) -> int:
        return command(*given, **named)

    shown.__name__, shown.__doc__ = command.__name__, command.__doc__
    shown.__annotations__ = described | {"return": int}
    shown.__signature__ = inspect.Signature(  # pyright: ignore[reportAttributeAccessIssue]
        [p.replace(annotation=described[n]) for n, p in parameters.items()], return_annotation=int
    )
    return shown


def main(arguments: Annotated[list[str] | None, tyro.conf.Suppress] = None) -> int:
    """Run one command.

    Args:
        arguments: of the command line; by default those of this process. ``--debug`` among them raises errors with
            their traceback, ``-v`` prints what runs the networks.

    Returns:
        0: all done; 1: some inputs failed, each named on standard error; 2: the call cannot be carried out; 130:
        interrupted.
    """
    # What OpenCV prints about a broken file is in our own message, with the name of the file.
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    if threading.current_thread() is threading.main_thread():  # stopped by a service manager is as by Ctrl-C
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if arguments in (["--version"], ["-V"]):
        from .. import __version__

        out_console.print(f"lithepose {__version__}", highlight=False)
        return OK
    debug, verbose = "--debug" in arguments, bool({"-v", "--verbose"} & set(arguments))
    arguments = [argument for argument in arguments if argument not in ("--debug", "-v", "--verbose")]
    if verbose:
        logging.basicConfig(format="%(message)s")  # to standard error
        logging.getLogger("lithepose").setLevel(logging.INFO)
    commands, name = COMMANDS, "lithepose"
    if arguments[:1] == ["analyze"]:
        commands, name, arguments = ANALYZE, "lithepose analyze", arguments[1:]
    description = (
        "Fast 2D human pose estimation. -V prints the version, -v what runs the networks, --debug the traceback"
        " of an error."
    )
    try:
        return tyro.extras.subcommand_cli_from_dict(
            {command: plain_help(function) for command, function in commands.items()},
            prog=name,
            description=description,
            args=arguments,
            config=(tyro.conf.FlagCreatePairsOff,),
        )
    except BrokenPipeError:  # the reader of a pipe went away, as head does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    except KeyboardInterrupt:
        return STOPPED
    except (LitheposeError, OSError, MemoryError) as error:  # anything else is a fault of this package
        if debug:
            raise
        err_console.print(f"lithepose: {error}", style="red", markup=False, highlight=False)
        return UNUSABLE
