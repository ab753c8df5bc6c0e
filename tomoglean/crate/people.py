"""Who did it: nobody is named unless the config does."""

from collections.abc import Callable, Mapping
from typing import Any

ORGANISATION = "#organisation"
PERSON = "#person"
NOBODY = "not named"
NO_LICENCE = "No licence is stated; all rights stay with the owners of the data."


def agent(about: Mapping[str, Any]) -> str:
    """Id of who ran the jobs."""
    return PERSON


def add(add_entity: Callable[..., Any], about: Mapping[str, Any]) -> None:
    """Add the person who ran the study, and the organisation."""
    add_entity(
        PERSON,
        "Person",
        name=about.get("person") or NOBODY,
        identifier=about.get("orcid") or None,
        affiliation={"@id": ORGANISATION},
    )
    add_entity(
        ORGANISATION,
        "Organization",
        name=about.get("organisation") or NOBODY,
        url=about.get("organisation_url") or "https://example.org/",
    )


def licence(about: Mapping[str, Any]) -> dict[str, str]:
    """Say under which licence the results may be used."""
    stated = about.get("licence") or ""
    return {"name": stated or "none stated", "description": stated or NO_LICENCE}
