"""Networks, one paper a file, and the one table that names them."""

from __future__ import annotations

from typing import Any

from .lithe import Lithe, LitheConfig

NETWORKS = {"lithe": (Lithe, LitheConfig)}


def build(name: str, **options: Any) -> Lithe:
    """Make a network by name; ``options`` are the fields of its config.

    Raises:
        ValueError: no such network, or no such option.
    """
    if name not in NETWORKS:
        raise ValueError(f"no network {name!r}; there are {', '.join(NETWORKS)}")
    network, config = NETWORKS[name]
    try:
        return network(config(**options))
    except TypeError as error:
        raise ValueError(f"{name}: {error}") from error
