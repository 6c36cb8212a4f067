"""Help texts, and the flags of a command."""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import io
import re
import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import tyro

Command = Callable[..., int]
WIDTH = 80
HERE = "{description}"
SILENT = tyro.conf.arg(help_behavior_hint="")
"""Of an option that is off unless it is given, or that describes its default itself."""
CONFIG = (tyro.conf.FlagCreatePairsOff, tyro.conf.OmitArgPrefixes)
COMMON = {  # options of every command; main removes them from a call before its command runs
    "config": Annotated[Path | None, tyro.conf.arg(help="TOML file with options.", metavar="PATH"), SILENT],
    "quiet": Annotated[bool, tyro.conf.arg(aliases=["-q"], help="print only errors and results."), SILENT],
    "verbose": Annotated[bool, tyro.conf.arg(aliases=["-v"], help="print a line for every input."), SILENT],
    "debug": Annotated[bool, tyro.conf.arg(help="print the traceback of an error."), SILENT],
    "version": Annotated[bool, tyro.conf.arg(aliases=["-V"], help="print the version and exit."), SILENT],
}


def plain_help(command: Command) -> Command:
    """The command with a shorter help: plain names for inputs, no empty defaults, and the common options."""
    hints, parameters = get_type_hints(command, include_extras=True), inspect.signature(command).parameters
    described: dict[str, Any] = {}
    texts = _arguments(command)
    for name, parameter in parameters.items():
        kind = hints[name]
        positional = parameter.kind == parameter.POSITIONAL_ONLY
        options: dict[str, Any] = {"help": texts[name]} if name in texts else {}
        if parameter.default is True:
            options["help_behavior_hint"] = ""
            options["help"] = f"turn off: {texts.get(name, name)}"
        if positional or parameter.default in (None, "", 0, (), False):
            options["help_behavior_hint"] = ""
        if positional:
            one = name.upper().removesuffix("S")
            options["metavar"] = f"{one} [{one} ...]" if get_origin(kind) is tuple else one
        elif metavar := _metavar(kind):
            options["metavar"] = metavar
        described[name] = Annotated[kind, tyro.conf.arg(**options), *_fixed(kind)]

    def shown(*given: Any, **named: Any) -> int:
        return command(*given, **{name: value for name, value in named.items() if name not in COMMON})

    common = [
        inspect.Parameter(n, inspect.Parameter.KEYWORD_ONLY, annotation=kind, default=None if n == "config" else False)
        for n, kind in COMMON.items()
    ]
    own = [p.replace(annotation=described[n]) for n, p in parameters.items()]
    shown.__name__, shown.__doc__ = command.__name__, command.__doc__
    shown.__annotations__ = described | COMMON | {"return": int}
    shown.__signature__ = inspect.Signature([*own, *common], return_annotation=int)  # pyright: ignore
    return shown


def _arguments(command: Command) -> dict[str, str]:
    """The docstring's text for each argument, in one line."""
    lines, found, name = (inspect.getdoc(command) or "").partition("\nArgs:\n")[2].splitlines(), {}, ""
    for line in lines:
        match = re.match(r"    (\w+): (.*)", line)
        if match:
            name, found[match[1]] = match[1], match[2]
        elif line.startswith(" " * 8):
            found[name] += f" {line.strip()}"
        elif line.strip():
            break
    return found


def _fixed(kind: Any) -> list[Any]:
    """For an optional tuple, accept a fixed number of values; tyro would also consume the inputs after them."""
    kinds = [k for k in get_args(kind) if k is not NoneType]
    if NoneType not in get_args(kind) or len(kinds) != 1 or get_origin(kinds[0]) is not tuple:
        return []
    parts = get_args(kinds[0])
    spec = tyro.constructors.PrimitiveConstructorSpec(
        nargs=len(parts),
        metavar=_metavar(kind),
        instance_from_str=lambda given: tuple(part(text) for part, text in zip(parts, given, strict=True)),
        is_instance=lambda value: value is None or isinstance(value, tuple),
        str_from_instance=lambda value: [str(part) for part in value or ()],
    )
    return [spec]


def _metavar(kind: Any) -> str:
    """Metavar of an optional value (to which tyro would add None) or of several values; empty for others."""
    kinds = [k for k in get_args(kind) if k is not NoneType]
    if get_origin(kind) is tuple and Ellipsis in kinds:
        return f"{kinds[0].__name__.upper()} [...]"
    if NoneType not in get_args(kind) or len(kinds) != 1:
        return ""
    if get_origin(kinds[0]) is Literal:
        return "{" + ",".join(map(str, get_args(kinds[0]))) + "}"
    if get_origin(kinds[0]) is tuple:
        return " ".join(k.__name__.upper() for k in get_args(kinds[0]))
    return kinds[0].__name__.upper() if isinstance(kinds[0], type) else ""


def call(command: Command, program: str, arguments: list[str]) -> int:
    """Read a command's arguments and run it.

    Args:
        command: command to run.
        program: name of the program, for its help.
        arguments: arguments of the call.

    Returns:
        exit code.
    """
    if not {"-h", "--help"} & set(arguments):
        return tyro.cli(plain_help(command), prog=program, description=HERE, args=arguments, config=CONFIG)
    with contextlib.redirect_stdout(io.StringIO()) as output, contextlib.suppress(SystemExit):
        tyro.cli(plain_help(command), prog=program, description=HERE, args=["--help"], config=CONFIG)
    text = output.getvalue().replace(HERE, description(command))  # tyro would join its lines
    print("\n".join(line.rstrip() for line in text.strip().splitlines()))
    return 0


def overview(program: str, about: str, commands: Mapping[str, Command]) -> str:
    """A list of commands, in lines of 80 columns."""
    wide = max(map(len, commands)) + 4
    lines = [f"usage: {program} COMMAND ...", "", *([about, ""] if about else []), "commands:"]
    for name, command in commands.items():
        start = f"  {name:{wide - 2}}"
        lines += textwrap.wrap(summary(command), WIDTH, initial_indent=start, subsequent_indent=" " * wide)
    return "\n".join(lines)


def summary(command: Command) -> str:
    """The text of a command in a list of commands."""
    return (inspect.getdoc(command) or "").partition("\n")[0]


def description(command: Command) -> str:
    """The docstring's text before its arguments, wrapped at 80 columns; examples are unchanged."""
    text = (inspect.getdoc(command) or "").partition("\nArgs:")[0].strip()
    prose, _, examples = text.partition("\nExamples:\n")
    paragraphs = [textwrap.fill(" ".join(part.split()), WIDTH) for part in prose.strip().split("\n\n")]
    if examples:
        paragraphs.append("examples:\n" + textwrap.indent(textwrap.dedent(examples.rstrip()), "  "))
    return "\n\n".join(paragraphs)


def parameters_of(command: Command) -> dict[str, Any]:
    """Names and defaults of a command's options, as in Python; grouped options are listed one by one."""
    found: dict[str, Any] = {}
    for name, parameter in inspect.signature(command).parameters.items():
        if dataclasses.is_dataclass(parameter.default):
            found |= {f.name: getattr(parameter.default, f.name) for f in dataclasses.fields(parameter.default)}
        elif parameter.kind != parameter.POSITIONAL_ONLY:
            found[name] = parameter.default
    return found


def flags_of(command: Command) -> list[str]:
    """The flags that a command accepts, such as ``--detect-every``."""
    own = [f"--no-{_dashed(n)}" if v is True else f"--{_dashed(n)}" for n, v in parameters_of(command).items()]
    return [*own, *(f"--{name}" for name in COMMON), "--help", "-h", "-q", "-v", "-V"]


def takes_inputs(command: Command) -> bool:
    """Whether a command accepts arguments without a flag."""
    return any(p.kind == p.POSITIONAL_ONLY for p in inspect.signature(command).parameters.values())


def _dashed(name: str) -> str:
    return re.sub("_+", "-", name)
