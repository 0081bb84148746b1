"""Version ranges such as `transformers>=5.9,<5.12`, held against what is installed."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import metadata
from typing import Any

from packaging.requirements import InvalidRequirement
from packaging.requirements import Requirement as Distribution


def complaint(ranges: Any) -> str:
    """What is wrong with a list of version ranges and what to write instead; empty when it can be read."""
    if not isinstance(ranges, list) or not all(isinstance(text, str) for text in ranges):
        return f'versions is a list of strings, got {ranges!r}; write ["..."]'
    for text in ranges:
        try:
            Distribution(text)
        except InvalidRequirement:
            return f"cannot read version range {text!r}; write one like 'transformer-lens>=4.3,<4.4'"
    return ""


def missing(ranges: Iterable[str]) -> list[str]:
    """Distributions that are named and not installed."""
    return [name for name in (Distribution(text).name for text in ranges) if _installed(name) is None]


def hold(ranges: Iterable[str]) -> bool:
    """Whether every distribution that is named is installed in its range."""
    for text in ranges:
        wanted = Distribution(text)
        version = _installed(wanted.name)
        if version is None or not wanted.specifier.contains(version, prereleases=True):
            return False
    return True


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
