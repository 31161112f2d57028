"""What MkDocs adds to the pages of this folder: pages of the root, the command line, the keys of a study."""

import html
import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import typer
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from medrobust.cli import app
from medrobust.perturbations import CORRUPTIONS, SUITES, TRANSFORM_SUITES, TRANSFORMS, entry_of
from medrobust.perturbations.request import parameters_of
from medrobust.study.schema import study_schema

ROOT = Path(__file__).parents[1]
PAGES = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
"""Pages of the root, and their names on the site."""

BLOCKS_OF_MODELS = {"input": "InputSpec", "output": "OutputSpec", "weights": "WeightsSpec"}
"""What a study says of a network, and the names of the blocks in the schema."""

BLOCKS_OF_TRAINING = {"augment": "Corrupting", "adversarial": "Adversarial"}
"""The same of what it says of training."""

Schema = Mapping[str, Any]


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages of the root, their links adapted, and the files that they link to."""
    for name, page in PAGES.items():
        text = (ROOT / name).read_text(encoding="utf-8").replace("](docs/", "](").replace('"docs/', '"')
        for other, target in PAGES.items():
            text = text.replace(f"]({other}", f"]({target}")
        files.append(File.generated(config, page, content=text))
    for path in (ROOT / "LICENSE", ROOT / "CITATION.cff", *(ROOT / "studies").glob("*.yaml")):
        files.append(File.generated(config, str(path.relative_to(ROOT)), abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, **_: object) -> str:
    """Fill in marks such as `<!-- command line -->` from the program itself."""
    marks = {
        "command line": _command_line,
        "keys of a study": _study_keys,
        "corruptions": _corruptions,
        "suites": _suites,
        "transforms": _transforms,
    }
    for mark, lines in marks.items():
        if f"<!-- {mark} -->" in markdown:
            markdown = markdown.replace(f"<!-- {mark} -->", "\n".join(lines()))
    return markdown


def _command_line() -> Iterator[str]:
    group: Any = typer.main.get_command(app)
    for name, command in group.commands.items():
        named = {given: given.metavar or str(given.name).upper() for given in command.params}
        arguments = [shown for given, shown in named.items() if given.param_type_name == "argument"]
        yield f"\n## {name}\n\n    medrobust {' '.join([name, *arguments, '[OPTIONS]'])}\n\n{command.help}\n"
        yield from _table(
            ("", "default", "meaning"),
            (
                (
                    f"`{shown}`" if shown in arguments else f"`{', '.join(given.opts)}`",
                    "" if given.default in (None, False) or given.required else f"`{given.default}`",
                    given.help,
                )
                for given, shown in named.items()
            ),
        )


def _study_keys() -> Iterator[str]:
    schema = study_schema()
    catalogues = {key: schema["properties"].pop(key) for key in ("perturbations", "noise", "data")}
    blocks = {}
    for key, value in schema["properties"].items():
        reference = next((one["$ref"] for one in (value, *value.get("anyOf", ())) if "$ref" in one), "")
        block = schema["$defs"].get(reference.rpartition("/")[2], {})
        if "properties" in block:
            blocks[key] = block
            value |= {"default": None, "description": f"[Below](#{key})."}
        else:
            value |= block
    yield from _keys(schema)
    blocks |= {f"models.{key}": schema["$defs"][name] for key, name in BLOCKS_OF_MODELS.items()}
    blocks |= {f"training.{key}": schema["$defs"][name] for key, name in BLOCKS_OF_TRAINING.items()}
    for key, block in blocks.items():
        yield f"\n## {key}\n\n{block['description'].partition('Attributes:')[0]}\n"
        yield from _keys(block)
    for key, entries in catalogues.items():
        yield f"\n## {key}\n\n{entries.get('description', '')}\n"
        for entry in entries.get("items", entries)["anyOf"]:
            if "title" in entry:
                yield f"\n### {entry['title']} {{ #{key}-{entry['title']} }}\n\n{entry['description']}\n"
                yield from _keys(entry)


def _corruptions() -> Iterator[str]:
    """A table of all families, and one of their steps."""
    entries = [entry_of(function) for function in CORRUPTIONS]
    yield from _table(
        ("family", "what it is", "parameter", "unit", "solved", "takes", "source"),
        (
            (
                f"`{entry.name}`",
                entry.summary,
                f"`{entry.budget}`" if entry.budget else "",
                entry.unit,
                "yes" if entry.extent else "no",
                ", ".join(["RGB"] * entry.colour + ["2D"] * (entry.dimensions == (2,))),
                entry.source,
            )
            for entry in entries
        ),
    )
    yield "\n### Steps\n"
    yield from _table(
        ("family", "preset", "parameters", "1", "2", "3", "4", "5", "source"),
        (
            (
                f"`{entry.name}`",
                f"`{name}`",
                ", ".join(f"`{key}`" for key in preset.severities[0]),
                *(
                    ", ".join(f"{value:.4g}" if value is not True else "yes" for value in step.values())
                    for step in preset.severities
                ),
                preset.source,
            )
            for entry in entries
            for name, preset in entry.presets.items()
        ),
    )


def _transforms() -> Iterator[str]:
    """A table of all transforms, with their default strengths and suites."""
    yield from _table(
        ("transform", "what it is", "strength", "unit", "takes", "suites", "source"),
        (
            (
                f"`{entry.name}`",
                entry.summary,
                f"{parameters_of(entry).model_fields['strength'].default:g}",
                entry.unit,
                ", ".join(["RGB"] * entry.colour + ["2D"] * (entry.dimensions == (2,))),
                ", ".join(suite for suite, names in TRANSFORM_SUITES.items() if entry.name in names),
                entry.source,
            )
            for entry in TRANSFORMS
        ),
    )


def _suites() -> Iterator[str]:
    yield from _table(
        ("suite", "families and their presets"),
        ((f"`{name}`", "; ".join(_by_preset(families))) for name, families in SUITES.items()),
    )


def _by_preset(families: Mapping[str, str]) -> Iterator[str]:
    for preset in dict.fromkeys(families.values()):
        yield f"`{preset}`: " + ", ".join(name for name, other in families.items() if other == preset)


def _keys(block: Schema) -> Iterator[str]:
    """A table of a block's keys; what they mean stands in the schema or in the docstring."""
    said = dict(re.findall(r"^ +(\w+): (.+(?:\n {6,}.+)*)", block.get("description", ""), re.MULTILINE))
    required = block.get("required", ())
    yield from _table(
        ("key", "values", "default", "meaning"),
        (
            (
                f"`{key}`",
                _values(value),
                "*required*" if key in required else _default(value),
                value.get("description") or said.get(key, ""),
            )
            for key, value in block["properties"].items()
            if key != "name" or "const" not in value
        ),
    )


def _values(value: Schema) -> str:
    """What a key may hold, in words."""
    if choices := value.get("anyOf", value.get("oneOf")):
        return " or ".join(dict.fromkeys(map(_values, choices)))
    if "enum" in value:
        return ", ".join(f"`{choice}`" for choice in value["enum"])
    if "const" in value:
        return f"`{value['const']}`"
    if "$ref" in value:
        return "block"
    if "pattern" in value and "/" in value["pattern"]:
        return "fraction"
    bounds = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    limits = [f"{sign} {value[bound]:g}" for bound, sign in bounds.items() if bound in value]
    names = {"array": "list", "object": "block", "integer": "whole number", "boolean": "`true`, `false`"}
    kind = names.get(value.get("type", ""), value.get("type", ""))
    return " ".join([kind, ", ".join(limits)]).strip()


def _default(value: Schema) -> str:
    """The default of a key as YAML, wherever the schema has put it; empty where there is none."""
    found = next((one["default"] for one in (value, *value.get("anyOf", ())) if "default" in one), None)
    return "" if found is None else f"`{json.dumps(found)}`"


def _table(head: Collection[str], rows: Iterable[Iterable[object]]) -> Iterator[str]:
    """A table in Markdown; nothing a cell holds may break it."""
    for row in (head, ["---" for _ in head], *rows):
        cells = [" ".join(html.escape(str(cell or ""), quote=False).split()) for cell in row]
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
    yield ""
