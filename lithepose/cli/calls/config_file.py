"""Options from a TOML file: one table per command, with flags as keys."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...errors import ConfigError, MissingFileError
from .guesses import did_you_mean
from .help import Command, parameters_of


def arguments_of(path: Path, command: str, commands: Mapping[str, Command], given: list[str]) -> list[str]:
    """The arguments that a config file adds to a call.

    Args:
        path: path of the file.
        command: command that is called, such as ``predict`` or ``analyze complexity``.
        commands: all commands, by name; their tables in the file are checked too.
        given: arguments of the call, which override those of the file.

    Returns:
        arguments to add.

    Raises:
        MissingFileError: no such file.
        ConfigError: it is not TOML, or has a table, key or value that no command accepts.
    """
    if not path.is_file():
        raise MissingFileError(
            f"--config {path}: no such file; pass a TOML file with a table per command, such as [predict]"
        )
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"--config {path}: not a valid TOML file ({error})") from error
    flat: dict[str, Any] = {}
    for name, table in tables.items():
        inner = {k: v for k, v in table.items() if isinstance(v, dict)} if isinstance(table, dict) else {}
        flat |= {f"{name} {k}": v for k, v in inner.items()} if inner else {name: table}
    for name, table in flat.items():
        if name not in commands or not isinstance(table, dict):
            hint = did_you_mean(name, commands) or f"; choose one of {', '.join(commands)}"
            raise ConfigError(f"--config {path}: [{name}] is not a valid command table{hint}")
        _check_keys(path, name, table, commands[name])
    own, used = flat.get(command, {}), {a.partition("=")[0].replace("_", "-") for a in given if a.startswith("--")}
    added = list[str]()
    for key, value in own.items():
        flag = "--" + key.replace("_", "-")
        if flag not in used and f"--no-{flag[2:]}" not in used:
            added += _argument(path, flag, value, parameters_of(commands[command])[key.replace("-", "_")])
    return added


def _check_keys(path: Path, name: str, table: dict[str, Any], command: Command) -> None:
    known = [key.replace("_", "-") for key in parameters_of(command)]
    for key in table:
        if key.replace("_", "-") not in known:
            hint = did_you_mean(key, known) or f"; choose one of {', '.join(known)}"
            raise ConfigError(f"--config {path}: unknown option {key} in [{name}]{hint}")


def _argument(path: Path, flag: str, value: Any, default: Any) -> list[str]:
    """A flag and its values, as they would be in the call."""
    if isinstance(default, bool):
        if not isinstance(value, bool):
            raise ConfigError(f"--config {path}: {flag[2:]} = {value!r}: must be true or false")
        turned = flag if not default else f"--no-{flag[2:]}"
        return [turned] if value != default else []
    if isinstance(value, (bool, dict)):
        raise ConfigError(f"--config {path}: {flag[2:]} = {value!r}: must be a value that {flag} accepts")
    return [flag, *map(str, value if isinstance(value, list) else [value])]
