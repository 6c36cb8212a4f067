"""The command line: a table of plain functions that return the exit code, one file per command."""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path
from typing import Annotated

import tyro

from ..errors import ConfigError, LitheposeError
from .analyze import augment, complexity, features, profile, receptive_field
from .benchmark import benchmark
from .calls.config_file import arguments_of
from .calls.console import OK, QUIET, STOPPED, UNUSABLE, USUAL, VERBOSE, err_console, out_console, set_level
from .calls.guesses import check_flags, no_command
from .calls.help import COMMON, CONFIG, Command, call, flags_of, overview, plain_help
from .cluster import cluster
from .demo import demo
from .evaluate import evaluate
from .export import export
from .models import models
from .papers import convert, reproduce
from .predict import predict
from .saved import angles, draw, merge
from .serve import serve
from .train import train


def analyze() -> int:
    """Measure size and speed of a network, draw its features, or draw training samples: `lithepose analyze --help`."""
    raise AssertionError("main runs its own commands")


COMMANDS: dict[str, Command] = {
    "demo": demo,
    "predict": predict,
    "draw": draw,
    "angles": angles,
    "merge": merge,
    "models": models,
    "evaluate": evaluate,
    "benchmark": benchmark,
    "train": train,
    "export": export,
    "convert": convert,
    "serve": serve,
    "cluster": cluster,
    "analyze": analyze,
    "reproduce": reproduce,
}
ANALYZE = {
    "complexity": complexity,
    "profile": profile,
    "receptive-field": receptive_field,
    "features": features,
    "augment": augment,
}
ABOUT = """Fast 2D human pose estimation on a plain CPU.

examples:
  lithepose demo
  lithepose predict image.jpg clip.mp4
  lithepose predict --help

Every command accepts -h, -q (only errors and results), -v (a line for every
input), --debug (tracebacks) and --config FILE.toml (options); `lithepose -V`
prints the version."""


def main(arguments: Annotated[list[str] | None, tyro.conf.Suppress] = None) -> int:
    """Run one command.

    Args:
        arguments: command-line arguments; by default those of this process. ``--debug`` raises errors with their
            traceback, and ``-v`` prints the runtime of each network.

    Returns:
        0: all done; 1: some inputs failed, each named on standard error; 2: the call cannot be carried out; 130:
        interrupted.
    """
    # OpenCV's messages about a broken file are not needed: our own message names the file.
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    if threading.current_thread() is threading.main_thread():  # SIGTERM ends a call like Ctrl-C
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given
    try:
        return _run(given)
    except BrokenPipeError:  # the reader of the pipe has ended, for example head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    except KeyboardInterrupt:
        return STOPPED
    except (LitheposeError, OSError, MemoryError) as error:  # any other error is a bug in this package
        if debug:
            raise
        err_console.print(f"lithepose: {error}", style="red", markup=False, highlight=False)
        return UNUSABLE
    finally:
        set_level(USUAL)


def _run(given: list[str]) -> int:
    """Find the command that is named, and call it."""
    rest, config, level, version = _common(given)
    if version:
        from .. import __version__

        out_console.print(f"lithepose {__version__}", highlight=False)
        return OK
    set_level(level)
    commands, program = COMMANDS, "lithepose"
    if rest[:1] == ["analyze"]:
        commands, program, rest = ANALYZE, "lithepose analyze", rest[1:]
    if not rest:
        print(overview(program, ABOUT if program == "lithepose" else "", commands), file=sys.stderr)
        raise ConfigError("no command given; choose one of the commands above")
    if rest[0] in ("-h", "--help"):
        print(overview(program, ABOUT if program == "lithepose" else "", commands))
        return OK
    if rest[0].startswith("--tyro-"):  # shell completion
        plain = {name: plain_help(command) for name, command in commands.items()}
        return tyro.extras.subcommand_cli_from_dict(plain, prog=program, args=rest, config=CONFIG)
    if rest[0].startswith("-"):
        check_flags(program, [f"--{name}" for name in COMMON] + ["--help"], rest)
    name, *rest = rest
    if name not in commands:
        raise no_command(name, commands, program)
    command, full = commands[name], f"{program} {name}"
    if config:
        tables = COMMANDS | {f"analyze {name}": command for name, command in ANALYZE.items()}
        end = rest.index("--") if "--" in rest else len(rest)
        rest[end:end] = arguments_of(config, full.removeprefix("lithepose "), tables, rest)
    check_flags(full, flags_of(command), rest)
    return call(command, full, rest)


def _common(given: list[str]) -> tuple[list[str], Path | None, int, bool]:
    """Remove the options that every command has; returns (other arguments, config file, level, version wanted)."""
    rest, config, level, version = list[str](), None, USUAL, False
    arguments = iter(given)
    for argument in arguments:
        if argument == "--":
            return [*rest, argument, *arguments], config, level, version
        if argument in ("-q", "--quiet"):
            level = QUIET
        elif argument in ("-v", "--verbose"):
            level = VERBOSE
        elif argument in ("-V", "--version"):
            version = True
        elif argument == "--config" or argument.startswith("--config="):
            named = argument.partition("=")[2] or next(arguments, "")
            if not named:
                raise ConfigError("--config: no file given; pass a TOML file")
            config = Path(named)
        elif argument != "--debug":
            rest.append(argument)
    return rest, config, level, version
