"""Three-dimensional pictures in the report: segments in each other, candidates in place."""

from typing import Any

from tomoglean.report.sources import Source


def segments(source: Source, task: str) -> list[Any]:
    """Show the segments of every volume as surfaces."""
    return []


def candidates(source: Source, task: str) -> list[Any]:
    """Show candidates in the membrane they were sought in."""
    return []
