"""Read what a scientist edits: config.yaml, checked against the schemas, defaults filled.

The schemas (JSON Schema written as YAML) hold every default with its unit and limits;
unknown keys, duplicate keys and wrong types are errors that name the key and say what is
allowed.
"""

import difflib
import math
from collections.abc import Hashable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator, ValidationError, validators

from tomoglean.provenance import Refused

SCHEMAS = Path(__file__).resolve().parent.parent / "config" / "schemas"
LARGEST_BYTES = 1_000_000
STAGES = {
    "semantic": (
        "slice", "augment", "train", "segment", "relabel", "measure", "evaluate", "publish",
    ),
    "detection": (
        "sample", "augment", "train", "mask", "classify", "pick", "evaluate", "publish",
        "average",
    ),
}  # fmt: skip
MEASURED = ("metal", "layer", "bone", "air")
USUAL_NETWORK = {"semantic": "unet", "detection": "lenet5_modified"}
TYPES = {
    "integer": "a whole number",
    "number": "a number",
    "string": "text",
    "boolean": "true or false",
    "array": "a list",
    "object": "a block of keys",
    "null": "null",
}
LIMITS = {
    "minimum": "at least",
    "exclusiveMinimum": "more than",
    "maximum": "at most",
    "exclusiveMaximum": "less than",
}
ITEMS = {"minItems": "at least", "maxItems": "at most"}
NAME = "^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$"


def read(path: Path, overrides: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Read and check a study's config.yaml.

    Parameters
    ----------
    path
        The YAML file.
    overrides
        Values from the command line that replace those of the file, key by key.

    Returns
    -------
    dict
        The whole config with every default filled in.

    Raises
    ------
    Refused
        One line naming the file, the key and what is allowed there.
    """
    return complete(merged(_read_yaml(path), overrides or {}), str(path))


def merged(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Lay one config over another, block by block."""
    both = {**old, **new}
    for name in old.keys() & new.keys():
        if isinstance(old[name], Mapping) and isinstance(new[name], Mapping):
            both[name] = merged(old[name], new[name])
    return both


def ordered(value: Any) -> Any:
    """Return settings in an order that does not depend on the file's: by name."""
    if isinstance(value, Mapping):
        return {name: ordered(value[name]) for name in sorted(value)}
    return value


def complete(config: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Check a config against the schemas and fill in the defaults."""
    full = filled(config, "config", name, "")
    for group, block in full["simulate"].items():
        schema, where = f"phantom-{block['simulator']}", f"simulate.{group}.settings"
        block["settings"] = filled(block["settings"], schema, name, where)
    full["tasks"] = {
        task: _complete_task(block, name, f"tasks.{task}")
        for task, block in full["tasks"].items()
    }
    _check_membranes(full["tasks"], name)
    return full


def _complete_task(task: Mapping[str, Any], name: str, where: str) -> dict[str, Any]:
    kind = task.get("kind")
    if kind not in STAGES:
        kinds = " or ".join(STAGES)
        raise Refused(f"{name}: {where}.kind: expected {kinds}, found {kind!r}")
    full = filled(task, f"task-{kind}", name, where)
    full["train"] = {"network": USUAL_NETWORK[kind], **full["train"]}
    for stage in STAGES[kind]:
        full[stage] = _complete_stage(full[stage], stage, kind, name, f"{where}.{stage}")
    _check_class_weights(full, full["train"], name, where)
    for control, block in full["controls"].items():
        train = merged(full["train"], block["train"])
        block["train"] = _complete_stage(
            train, "train", kind, name, f"{where}.controls.{control}.train"
        )
        _check_class_weights(full, block["train"], name, f"{where}.controls.{control}")
    _check_classes(full, task, name, where)
    return full


def _check_class_weights(
    task: Mapping[str, Any], train: Mapping[str, Any], name: str, where: str
) -> None:
    weights, classes = train["class_weights"], task["classes"]
    if weights is not None and len(weights) != len(classes):
        raise Refused(
            f"{name}: {where}.train.class_weights: expected {len(classes)} numbers, one for"
            f" each of {', '.join(classes)}, found {len(weights)}; correct the list"
        )


def _check_classes(
    task: Mapping[str, Any], given: Mapping[str, Any], name: str, where: str
) -> None:
    """Refuse to speak of a class that the task does not have; defaults may do so."""
    named = {f"measure.{k}": given.get("measure", {}).get(k, []) for k in MEASURED}
    named["colours"] = [c for c in given.get("colours", {}) if c != "unlabelled"]
    for key, words in named.items():
        for word in [words] if isinstance(words, str) else words:
            if word not in task["classes"]:
                raise Refused(
                    f"{name}: {where}.{key}: expected a class of the task"
                    f" ({', '.join(task['classes'])}), found {word!r}; name one of these"
                )


def _complete_stage(
    block: Mapping[str, Any], stage: str, kind: str, name: str, where: str
) -> dict[str, Any]:
    full = filled(block, _schema_of(stage, kind), name, where)
    network = full.get("network", "")
    if stage == "train" and (network == "unet") != (kind == "semantic"):
        fitting = "unet" if kind == "semantic" else "lenet5 or lenet5_modified"
        raise Refused(f"{name}: {where}.network: expected {fitting}, found {network}")
    if stage == "train" and full["batch"] % full["devices"]:
        raise Refused(
            f"{name}: {where}.batch: expected a multiple of devices ({full['devices']}), "
            f"found {full['batch']}; change one of them"
        )
    return full


def _schema_of(stage: str, kind: str) -> str:
    own = f"{stage}-{kind}"
    return own if (SCHEMAS / f"{own}.yaml").is_file() else stage


def counted(settings: Mapping[str, Any], stage: str, kind: str) -> dict[str, Any]:
    """Leave out of a stage's settings what says how it runs, not what comes out.

    The schema marks such keys by `counts: false`.
    """
    known = read_schema(_schema_of(stage, kind))["properties"]
    return {
        name: value
        for name, value in settings.items()
        if known.get(name, {}).get("counts", True)
    }


def _check_membranes(tasks: Mapping[str, Any], name: str) -> None:
    for task, block in tasks.items():
        other = tasks.get(block.get("membrane", ""))
        if block["kind"] == "detection" and (not other or other["kind"] != "semantic"):
            semantic = [
                task for task, block in tasks.items() if block["kind"] == "semantic"
            ]
            raise Refused(
                f"{name}: tasks.{task}.membrane: unknown task {block['membrane']!r}; "
                f"name a semantic task: {', '.join(semantic) or 'there is none yet'}"
            )
        if other and block["mask"]["membrane_class"] not in other["classes"]:
            raise Refused(
                f"{name}: tasks.{task}.mask.membrane_class: expected a class of"
                f" {block['membrane']} ({', '.join(other['classes'])}), found"
                f" {block['mask']['membrane_class']!r}; name one of these"
            )


def filled(
    block: Mapping[str, Any], schema_name: str, name: str, where: str
) -> dict[str, Any]:
    """Check one block against its schema and return it with defaults."""
    schema = read_schema(schema_name)
    errors = sorted(Validator(schema).iter_errors(block), key=lambda e: e.path)
    if errors:
        raise Refused(f"{name}: {_explain(errors[0], where)}")
    full: dict[str, Any] = _with_defaults(block, schema)
    return full


def _is_number(_checker: Any, value: Any) -> bool:
    """Tell whether a value is a number that one can count with: finite, no truth value."""
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, int) and not isinstance(value, bool)


def _ascending(
    _validator: Any, asked: bool, value: Any, _schema: Any
) -> Iterator[ValidationError]:
    """Check a pair of limits: the lower one stands first."""
    numbers = isinstance(value, list) and all(_is_number(None, item) for item in value)
    if asked and numbers and sorted(value) != value:
        yield ValidationError(f"expected the lower limit first, found {value}")


#: JSON Schema, with finite numbers only and the keyword `ascending` for pairs of limits.
Validator: Any = validators.extend(  # type: ignore[no-untyped-call]
    Draft202012Validator,
    {"ascending": _ascending},
    type_checker=Draft202012Validator.TYPE_CHECKER.redefine("number", _is_number),
)


@cache
def read_schema(name: str) -> dict[str, Any]:
    """Read one schema file by its name."""
    text = (SCHEMAS / f"{name}.yaml").read_text(encoding="utf-8")
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times faster, where it is
    schema: dict[str, Any] = yaml.load(text, Loader=loader)  # noqa: S506 - it is a safe one
    return schema


def _with_defaults(value: Any, schema: Mapping[str, Any]) -> Any:
    if isinstance(value, Mapping):
        known = schema.get("properties", {})
        other = schema.get("additionalProperties") or {}
        given = {
            key: _with_defaults(item, known.get(key, other)) for key, item in value.items()
        }
        missing = {
            key: _with_defaults(part["default"], part)
            for key, part in known.items()
            if key not in given and "default" in part
        }
        return {**given, **missing}
    if isinstance(value, list) and "items" in schema:
        return [_with_defaults(item, schema["items"]) for item in value]
    return value


def _explain(error: Any, where: str) -> str:
    """Turn a schema error into: key, what was expected, what was found."""
    place = ".".join([*([where] if where else []), *_steps_to(error)])
    kind, limit, found = error.validator, error.validator_value, error.instance
    if kind == "additionalProperties":
        return _explain_unknown(error, place)
    if kind == "required":
        missing = [key for key in limit if key not in found]
        return f"{place or 'top level'}: the key '{missing[0]}' is missing"
    if kind == "type":
        kinds = [limit] if isinstance(limit, str) else limit
        expected = " or ".join(TYPES[item] for item in kinds)
        return f"{place}: expected {expected}, found {found!r}"
    if kind == "enum":
        words = ", ".join("empty" if word == "" else str(word) for word in limit)
        return f"{place}: expected one of {words}; found {found!r}"
    if kind in LIMITS:
        return f"{place}: expected {LIMITS[kind]} {limit}, found {found!r}"
    if kind in ITEMS:
        return f"{place}: expected {ITEMS[kind]} {limit} items, found {len(found)}"
    if kind == "minLength":
        return f"{place}: expected text, found {found!r}"
    if kind == "pattern":
        return f"{place}: expected {_in_words(error.schema)}, found {found!r}"
    return f"{place}: {error.message}"


def _steps_to(error: Any) -> list[str]:
    """Name the way to a mistake; people count the blocks of `arrivals` from 1."""
    path = list(error.absolute_path)
    first = 1 if path[:1] == ["arrivals"] else 0
    return [str(part + first) if isinstance(part, int) else part for part in path]


def _in_words(schema: Mapping[str, Any]) -> str:
    """Say in words what a text must look like, as the schema describes it."""
    if schema["pattern"] == NAME:
        return "letters, digits, - and _, at most 64"
    told = schema.get("expected") or schema.get("description") or schema["pattern"]
    words = str(told).strip().rstrip(".")
    return words[0].lower() + words[1:] if words[1:2].islower() else words


def _explain_unknown(error: Any, place: str) -> str:
    known = list(error.schema.get("properties", {}))
    unknown = next(key for key in error.instance if key not in known)
    near = difflib.get_close_matches(str(unknown), known, n=1)
    hint = f", did you mean '{near[0]}'?" if near else ""
    full = f"{place}.{unknown}" if place else str(unknown)
    return f"{full}: unknown key{hint}; allowed here: {', '.join(sorted(known))}"


class _Strict(yaml.SafeLoader):
    """A loader that refuses what YAML lets pass: duplicate keys."""


def _unique_mapping(loader: _Strict, node: yaml.MappingNode) -> dict[Hashable, Any]:
    seen: set[Hashable] = set()
    for key_node, _ in node.value:
        name: Hashable = loader.construct_object(key_node)
        line = key_node.start_mark.line + 1
        if not isinstance(name, str):
            raise Refused(f"line {line}: the key {name!r} is not text; put it in quotes")
        if name in seen:
            raise Refused(f"line {line}: the key '{name}' stands twice; keep one of them")
        seen.add(name)
    return loader.construct_mapping(node, deep=True)


_Strict.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _unique_mapping)


def _read_yaml(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise Refused(f"{path}: no such file; a study has config/config.yaml")
    if path.stat().st_size > LARGEST_BYTES:
        raise Refused(f"{path}: larger than 1 MB; is this a config?")
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _Strict)  # noqa: S506 - a SafeLoader
    except Refused as error:
        raise Refused(f"{path}: {error}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise Refused(f"{path}: not valid YAML: {' '.join(str(error).split())}") from error
    if content is not None and not isinstance(content, dict):
        raise Refused(f"{path}: expected a block of keys, found {type(content).__name__}")
    return content or {}
