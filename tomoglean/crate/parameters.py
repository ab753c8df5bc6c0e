"""Formal parameters of the tools: what goes in, what comes out, what is set."""

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tomoglean.crate.records import Job
from tomoglean.discretion import hide, hide_all

Value = str | int | float | bool
KINDS = {bool: "Boolean", int: "Integer", float: "Number", str: "Text"}
RAW = "raw"


@dataclass
class Formal:
    """A parameter of a tool, and what it has been given.

    Attributes
    ----------
    tool
        Name of the tool, or workflow.
    way
        in, out or set.
    name
        For in and out the stage that the files come from, otherwise the key.
    examples
        Ids of the files or values it has been given.
    kinds
        File, Dataset, or the types of the values.
    """

    tool: str
    way: str
    name: str
    examples: dict[str, None] = field(default_factory=dict)
    kinds: set[str] = field(default_factory=set)

    @property
    def id(self) -> str:
        """Id within the crate."""
        return f"#{self.tool}/{self.way}/{self.name}"

    @property
    def meaning(self) -> str:
        """Say what the parameter is, for people."""
        words = {"in": "files read from", "out": "files written to", "set": "setting"}
        return f"{words[self.way]} {self.name}, of {self.tool}"


@dataclass
class Parameters:
    """Formal parameters of all tools by id, values by id, and who feeds whom.

    Attributes
    ----------
    formals
        Formal parameters by id.
    values
        Name, value and formal parameter of every setting by id.
    links
        Pairs (source, target) of ids of formal parameters.
    """

    formals: dict[str, Formal] = field(default_factory=dict)
    values: dict[str, tuple[str, Value, str]] = field(default_factory=dict)
    links: dict[tuple[str, str], None] = field(default_factory=dict)

    def add(self, tool: str, way: str, name: str, example: str, kind: str) -> str:
        """Note what a parameter has been given; returns its id."""
        formal = Formal(tool, way, name)
        formal = self.formals.setdefault(formal.id, formal)
        formal.examples[example] = None
        formal.kinds.add(kind)
        return formal.id

    def setting(self, tool: str, name: str, value: Value) -> tuple[str, str]:
        """Note a setting; returns the ids of its value and of its formal parameter."""
        told = hashlib.sha256(json.dumps(value).encode()).hexdigest()[:12]
        value_id = f"#{tool}/set/{name}={told}"
        formal = self.add(tool, "set", name, value_id, KINDS[type(value)])
        self.values[value_id] = (name, value, formal)
        return value_id, formal

    def of(self, tool: str, *ways: str) -> list[str]:
        """Ids of the parameters of a tool."""
        every = self.formals.values()
        return [formal.id for formal in every if formal.tool == tool and formal.way in ways]

    def into(self, tool: str) -> list[tuple[str, str]]:
        """Links whose target is a parameter of a tool."""
        return [link for link in self.links if self.formals[link[1]].tool == tool]

    def by_example(self) -> Mapping[str, list[str]]:
        """Formal parameters that each file was given to."""
        found: dict[str, list[str]] = defaultdict(list)
        for formal in self.formals.values():
            for example in formal.examples:
                found[example].append(formal.id)
        return found


def stage_of(path: str) -> str:
    """First folder below results, or raw for what lies outside."""
    inside = path.startswith("results/")
    return path.removeprefix("results/").split("/")[0] if inside else RAW


def settings_of(job: Job) -> dict[str, Value]:
    """Flatten a job's settings; the code's fingerprint is one of them."""
    return {**dict(_flat(hide_all(job.settings), "")), "code": job.code or "unknown"}


def _flat(value: Any, name: str) -> Iterable[tuple[str, Value]]:
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _flat(inner, f"{name}.{_plain(str(key))}".lstrip("."))
    elif isinstance(value, Value):
        yield name, value
    elif value not in (None, "", [], {}):
        yield name, json.dumps(value, default=str)


def _plain(key: str) -> str:
    """Write a key so that it may stand in an id."""
    return "".join(letter if letter.isalnum() or letter in "_-." else "-" for letter in key)


def told(value: Value) -> Value:
    """Write a value so that no folder can be read from it."""
    return hide(value) if isinstance(value, str) else value
