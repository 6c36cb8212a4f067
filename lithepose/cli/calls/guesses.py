"""Hints for commands and flags that do not exist."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from pathlib import Path

from ...errors import ConfigError

COMMANDS = {  # commands of other tools, or other words -> what to write
    "track": "lithepose predict clip.mp4 --track",
    "detect": "lithepose predict image.jpg",
    "pose": "lithepose predict image.jpg",
    "infer": "lithepose predict image.jpg",
    "inference": "lithepose predict image.jpg",
    "run": "lithepose predict image.jpg",
    "webcam": "lithepose predict 0",
    "camera": "lithepose predict 0",
    "val": "lithepose evaluate lithe --data FOLDER",
    "test": "lithepose evaluate lithe --data FOLDER",
    "eval": "lithepose evaluate lithe --data FOLDER",
    "convert": "lithepose merge poses.jsonl --out poses.csv",
    "plot": "lithepose draw poses.jsonl",
    "info": "lithepose models",
    "list": "lithepose models",
    "help": "lithepose --help",
    "version": "lithepose --version",
}
INPUTS, FOLDER = "pass inputs without a flag, as in `lithepose predict image.jpg`", "use --out FOLDER"
DEVICE = "use --device cuda for a GPU, or --precision int8; --threads N sets the number of CPU threads"
FLAGS = {  # for `predict`, and for other commands that have the flags of the hint
    **dict.fromkeys(("--input", "--source", "--image", "--images", "--video", "-i", "-s"), INPUTS),
    **dict.fromkeys(("--output", "--project", "--save-dir", "--out-dir", "-o"), FOLDER),
    **dict.fromkeys(("--gpu", "--cuda", "--half"), DEVICE),
    **dict.fromkeys(("--conf", "--confidence", "--score-thr", "--min-confidence"), "use --threshold"),
    **dict.fromkeys(("--imgsz", "--img-size", "--resolution"), "use --size"),
    **dict.fromkeys(("--weights", "-m"), "use --model"),
    **dict.fromkeys(("--save-txt", "--save-json", "--save-csv"), "use --json people.json, or people.csv"),
    **dict.fromkeys(("--webcam", "--camera"), "pass a camera as input, as in `lithepose predict 0`"),
    **dict.fromkeys(("--view-img", "--display"), "use --show"),
    **dict.fromkeys(
        ("--save", "--draw"), "drawn images are saved unless only --json is set; set their folder with --out"
    ),
    **dict.fromkeys(("--force", "--exist-ok", "-y"), "use --overwrite"),
    **dict.fromkeys(("--vid-stride", "--stride"), "use --every"),
    **dict.fromkeys(("--max-det", "--max-persons"), "use --max-people"),
    **dict.fromkeys(("--color",), "use --colour"),
    **dict.fromkeys(("--blur-faces", "--anonymize"), "use --hide-faces"),
}


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """``; did you mean X?`` if a known word is close, else empty."""
    plain = {name.strip("-"): name for name in known}
    close = difflib.get_close_matches(word.strip("-"), list(plain), 1, 0.6)
    return f"; did you mean {plain[close[0]]}?" if close else ""


def no_command(word: str, known: Iterable[str], program: str = "lithepose") -> ConfigError:
    """The error for a word that is not a command."""
    known = list(known)
    if word in COMMANDS and program == "lithepose":
        return ConfigError(f"unknown command {word!r}; use `{COMMANDS[word]}`")
    if "." in word or "=" in word or Path(word).exists():
        return ConfigError(f"unknown command {word!r}; use `lithepose predict {word.rpartition('=')[2]}`")
    close = did_you_mean(word, known)
    return ConfigError(
        f"unknown command {word!r}{close or '; choose one of ' + ', '.join(known)} (see `{program} --help`)"
    )


def check_flags(program: str, known: Iterable[str], arguments: Iterable[str]) -> None:
    """Refuse flags that a command does not have.

    Args:
        program: name of the program, for messages.
        known: flags of the command.
        arguments: arguments of the call, after the command.

    Raises:
        ConfigError: an unknown flag; the message says what to write instead.
    """
    known = list(known)
    for argument in arguments:
        if argument == "--":
            return
        flag = argument.partition("=")[0]
        dashed = "--" + flag[2:].replace("_", "-") if flag.startswith("--") else flag
        if re.match(r"--?[A-Za-z]", flag):
            if dashed in known or dashed.startswith("--tyro-"):
                continue
            raise ConfigError(f"unknown option {flag}; {_instead(dashed, known)} (see `{program} --help`)")
        pair = re.fullmatch(r"([a-z_]+)=(.*)", argument)
        if pair and not Path(argument).exists():
            name = "--" + pair[1].replace("_", "-")
            hint = f"use {name} {pair[2]}" if name in known else _instead(name, known)
            raise ConfigError(f"{argument}: options must start with dashes; {hint} (see `{program} --help`)")


def _instead(flag: str, known: list[str]) -> str:
    guess = FLAGS.get(flag, "")
    named = [word for word in guess.split() if word.startswith("--")]
    # A hint for predict may name a flag that this command lacks.
    if guess and all(word.rstrip(",;") in known for word in named) and (named or "--threshold" in known):
        return guess
    return did_you_mean(flag, known).removeprefix("; ") or "choose one of the command's options"
