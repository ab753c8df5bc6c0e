"""Which settings of a study differ from the defaults."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tomoglean import config as configs
from tomoglean.report import style

ASKED = {"semantic": ("kind", "classes"), "detection": ("kind", "membrane")}
SIMULATED = ("simulator", "volumes")
NONE = "–"
UNKNOWN = object()


@dataclass(frozen=True)
class Change:
    """A setting that differs from its default.

    Attributes
    ----------
    key
        Whole key, such as tasks.bone.train.epochs.
    default
        What it would be; None and `has_default` false where there is none.
    here
        What it is.
    has_default
        Whether it has a default at all.
    """

    key: str
    default: Any
    here: Any
    has_default: bool


def differences(config: Mapping[str, Any]) -> list[Change]:
    """List the settings that are not as they would be if nobody had set them.

    Parameters
    ----------
    config
        A study's config with all defaults filled in.

    Returns
    -------
    list of Change
        In the order of the config. Keys that every study must name (kind, classes,
        volumes to simulate) come without a default; the default of a control is what
        its task trains with.

    Raises
    ------
    Refused
        If the config does not fit today's schemas.
    """
    usual = leaves(_usual(config))
    return [
        Change(key, usual.get(key), here, key in usual)
        for key, here in leaves(config).items()
        if usual.get(key, UNKNOWN) != here
    ]


def _usual(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the defaults of what a study names, without what it must name."""
    tasks, groups = config.get("tasks") or {}, config.get("simulate") or {}
    least = {
        "tasks": {task: _only(block, _asked(block)) for task, block in tasks.items()},
        "simulate": {name: _only(group, SIMULATED) for name, group in groups.items()},
    }
    usual = configs.complete(least, "config")
    for task, block in usual["tasks"].items():
        block["controls"] = _controls(tasks[task])
        usual["tasks"][task] = _without(block, _asked(block))
    usual["simulate"] = {
        name: _without(group, SIMULATED) for name, group in usual["simulate"].items()
    }
    return usual


def _asked(task: Mapping[str, Any]) -> tuple[str, ...]:
    return ASKED.get(str(task.get("kind")), ("kind",))


def _only(block: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: block[name] for name in names if name in block}


def _without(block: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: value for name, value in block.items() if name not in names}


def _controls(task: Mapping[str, Any]) -> dict[str, Any]:
    """Return the task's controls as they were if they differed in nothing from the task."""
    labels: dict[str, Any] = {"labels": []} if task.get("kind") == "semantic" else {}
    train = task.get("train", {})
    return {name: {**labels, "train": train} for name in task.get("controls") or {}}


def leaves(value: Any, name: str = "") -> dict[str, Any]:
    """List a nested value's innermost ones by whole key; lists are one value."""
    if not isinstance(value, Mapping) or not value:
        return {name: value}
    found: dict[str, Any] = {}
    for key, inner in value.items():
        found |= leaves(inner, f"{name}.{key}" if name else str(key))
    return found


def said(value: Any, digits: int = 4) -> str:
    """Write a value: numbers with some digits, nothing as a dash.

    Examples
    --------
    >>> said(0.81234), said(None), said(12), said(["z", "y"])
    ('0.8123', '–', '12', '["z", "y"]')
    """
    if value is None:
        return NONE
    if isinstance(value, float):
        return style.significant(value, digits)
    if isinstance(value, str):
        return value or "(empty)"
    return json.dumps(value, default=str, ensure_ascii=False)
