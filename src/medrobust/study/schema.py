"""The JSON Schema of a study, for editors: names, parameters, ranges and defaults are the catalogues'."""

from collections.abc import Iterable
from typing import Any

from medrobust.data import DATASETS
from medrobust.models import MODELS, InputSpec, OutputSpec, WeightsSpec
from medrobust.parameters import parameter_model
from medrobust.perturbations import PERTURBATIONS, parameters_of
from medrobust.study.config import Study

Schema = dict[str, Any]

FRACTION: Schema = {"type": "string", "pattern": r"^\s*\d*\.?\d+\s*/\s*\d*\.?\d+\s*$"}
"""Numbers may be written as fractions, e.g. 4/255."""

OWN_DATA: Schema = {
    "type": "object",
    "title": "load",
    "description": "A function of yours that opens the data; the other keys are its arguments.",
    "properties": {"load": {"type": "string", "pattern": r"^[\w.]+:\w+$"}},
    "required": ["load"],
}

OWN_PERTURBATION: Schema = OWN_DATA | {
    "description": "A perturbation of yours; the other keys are its parameters, and `label`."
}

FRACTIONS = {"Adversarial": ("eps", "step"), "Corrupting": ("gaussian",)}
"""Numbers of a study's blocks that may be written as fractions."""

BOUNDS = {"ge": "minimum", "gt": "exclusiveMinimum", "le": "maximum", "lt": "exclusiveMaximum"}
"""pydantic leaves the bounds of a number that is parsed first under its own names."""


def study_schema() -> Schema:
    """JSON Schema (2020-12) of a study file."""
    schema = Study.model_json_schema()
    properties = schema["properties"]
    datasets = []
    for name, entry in DATASETS.items():
        own = parameter_model(name, *entry.functions).model_json_schema()
        schema["$defs"] |= own.get("$defs", {})
        root = {"root": {"type": "string", "description": "Folder of the data."}} if entry.list else {}
        datasets.append(_entry(name, entry.summary, root | own["properties"], required=[*root]))
    properties["data"] = {"anyOf": [*datasets, OWN_DATA]}
    for form in (InputSpec, OutputSpec, WeightsSpec):
        own = form.model_json_schema(ref_template="#/$defs/{model}")
        schema["$defs"] |= own.pop("$defs", {}) | {form.__name__: own}
    weights = {"anyOf": [{"type": "string"}, {"$ref": "#/$defs/WeightsSpec"}]}
    schema["$defs"]["Surrogates"]["properties"]["weights"]["additionalProperties"] = weights
    properties["models"]["items"] = {
        "type": "object",
        "properties": {
            "name": {"type": "string", "examples": list(MODELS)},  # or any name of timm
            "load": {"type": "string", "description": "A function or class that makes the network."},
            "args": {"type": "object", "description": "Arguments of that function or class."},
            "weights": weights,
            "input": {"$ref": "#/$defs/InputSpec"},
            "output": {"$ref": "#/$defs/OutputSpec"},
            "train": {"type": "boolean", "description": "Whether medrobust trains it."},
        },
        "required": ["name"],
    }
    fixed = [entry | {"required": ["name", "strength"]} for entry in _perturbations("noise")]
    properties["perturbations"]["items"] = {
        "anyOf": [*_perturbations("attack", "corruption", "transform"), *fixed, OWN_PERTURBATION]
    }
    properties["noise"] = {
        "anyOf": [*_perturbations("noise"), OWN_PERTURBATION, {"type": "object", "maxProperties": 0}]
    }
    for block, keys in FRACTIONS.items():
        own = schema["$defs"][block]["properties"]
        own |= {key: _or_fraction(own[key]) for key in keys}
    properties["surrogates"] = {"anyOf": [properties["surrogates"], {"enum": ["others", "none"]}]}
    return schema


def _perturbations(*roles: str) -> list[Schema]:
    return [_perturbation(name) for name, entry in PERTURBATIONS.items() if entry.role in roles]


def _perturbation(name: str) -> Schema:
    entry = PERTURBATIONS[name]
    own = {
        key: _or_fraction(value)
        for key, value in parameters_of(entry).model_json_schema()["properties"].items()
    }
    if entry.role == "transform":
        own["search"] = {"anyOf": _one_or_several(own["search"])}
    elif entry.budget is not None:
        solved = {"type": "object", "properties": {"ssim": {"type": "number"}}, "required": ["ssim"]}
        one, is_curve = own[entry.budget], entry.role in ("attack", "corruption")
        others = [solved] * (entry.role != "corruption") + [_one_or_several(one)[1]] * is_curve
        own[entry.budget] = {"anyOf": [one, *others]}
    label: Schema = {"type": "string", "pattern": "^[A-Za-z0-9._-]+$"}
    has_curve = entry.role in ("attack", "corruption", "transform") and entry.budget
    shared = {"label": label} | ({"curve": label} if has_curve else {})
    if entry.presets:
        shared["preset"] = {"enum": list(entry.presets)}
    if entry.severities:
        step = {"type": "integer", "minimum": 1, "maximum": entry.severities}
        shared["severity"] = {"anyOf": _one_or_several(step)}
    if entry.role == "attack":
        shared |= {
            "on_misclassified": {"enum": ["attack", "keep", "drop"]},
            "crafted_on": {"enum": ["surrogates", "targets", "both", "ensemble"]},
            "on_failure": {"enum": ["last", "clean"]},
            "finding": {"anyOf": [{"type": "string"}, {"type": "integer"}]},
            "cases": {"type": "integer", "minimum": 1},
        }
    if entry.role in ("attack", "noise"):
        shared["ladder"] = _or_fraction({"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1})
    return _entry(name, entry.summary, shared | own)


def _entry(name: str, summary: str, properties: Schema, required: Iterable[str] = ()) -> Schema:
    return {
        "type": "object",
        "title": name,
        "description": summary,
        "properties": {"name": {"const": name}, **properties},
        "required": ["name", *required],
        "additionalProperties": False,
    }


def _one_or_several(value: Schema) -> list[Schema]:
    """A value, and a list of such."""
    return [value, {"type": "array", "items": value, "minItems": 1, "uniqueItems": True}]


def _or_fraction(value: Schema) -> Schema:
    """A number may also be a fraction; its bounds get the names that JSON Schema has for them."""
    if "anyOf" in value:
        return value | {"anyOf": [_or_fraction(choice) for choice in value["anyOf"]]}
    if value.get("type") != "number":
        return value
    return {"anyOf": [{BOUNDS.get(key, key): content for key, content in value.items()}, FRACTION]}
