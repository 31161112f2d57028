"""The page that compares several runs: one HTML file that opens offline."""

from collections.abc import Mapping, Sequence

import polars as pl
import yaml

from medrobust.analysis.across import Conclusion
from medrobust.analysis.comparable import ComparedRun, attacks_of
from medrobust.analysis.table import Table
from medrobust.core import Role
from medrobust.report.page import TEMPLATES, Block, filled_page, heat
from medrobust.report.reading import attack_table, capitalised, setting, threat_table
from medrobust.report.style import Picture

CAPTIONS: Mapping[str, Mapping[str, str]] = yaml.safe_load((TEMPLATES / "comparison.yaml").read_text("utf-8"))
"""Titles and captions of tables."""
PAIRS = ("first", "second", "kind")
ENDPOINT = ("difference_in_points", "p_holm", "verdict", "better")


def comparison_page(
    runs: Sequence[ComparedRun],
    conclusion: Conclusion,
    tables: Mapping[str, pl.DataFrame],
    pictures: Mapping[str, Picture],
    limits: Sequence[str],
) -> str:
    """The page of a comparison.

    Args:
        runs: The runs, the earliest first.
        conclusion: What may be said.
        tables: From `analysis.across.comparison_tables`.
        pictures: The scores of all runs, and the rungs of the ladder where they share some.
        limits: What differs between the runs, their warnings and what is left open, in sentences.
    """
    results = runs[0].results
    against = " against ".join(run.name for run in reversed(runs))
    return filled_page(
        "comparison.html.j2",
        "page.js",
        title=f"{against} on {results.record['data']['name']}",
        results=results,
        phantom=any(run.results.record["data"]["phantom"] for run in runs),
        names=[run.name for run in runs],
        conclusion=conclusion,
        pictures=pictures,
        limits=limits,
        blocks=_blocks(runs, tables),
        glance=[
            ("runs", len(runs)),
            ("networks", sum(len(run.results.models) for run in runs)),
            ("attacks compared", len(results.attacks)),
            (f"test {results.unit}s", len(results.panel.patients)),
            ("test cases", results.n_cases),
        ],
        versions=sorted({run.results.record["versions"]["medrobust"] for run in runs}),
    )


def provenance(run: ComparedRun) -> dict[str, str]:
    """The data, networks, attacks and versions of a run."""
    record, results = run.results.record, run.results
    surrogates, versions = run.study["surrogates"], record["versions"]
    commit = record["commit"] or {}
    networks = record["networks"].items()
    targets = [folder for folder, network in networks if network["role"] == Role.TARGET]
    sources = dict.fromkeys(network["name"] for _, network in networks if network["role"] == Role.SURROGATE)
    return {
        "data set": record["data"]["name"],
        "fingerprint (SHA-256)": record["data"]["fingerprint"],
        **{name: str(value) for name, value in record["data"]["facts"].items()},
        f"test {results.unit}s": str(len(results.panel.patients)),
        f"training {results.unit}s": str(len(run.trained_on)),
        "folds": str(results.folds or "none"),
        "networks": ", ".join(results.models),
        "weights (SHA-256)": ", ".join(
            f"{folder} {run.weights.get(folder, 'unknown')[:12]}" for folder in targets
        ),
        "seed": str(run.study["seed"]),
        "seeds of targets": setting(run.study["targets"]["seeds"]),
        "surrogates": ", ".join(sources),
        "seeds of surrogates": setting(surrogates["seeds"]),
        "data of surrogates": str(surrogates["data"]),
        "attacks": ", ".join(attacks_of(run)),
        "support": str(run.study["support"]),
        "medrobust": str(versions["medrobust"]),
        "commit": f"{commit.get('hash', 'none')}{' (changed)' if commit.get('changed') else ''}",
        "torch": str(versions["torch"]),
        "device": str(record["device"]),
    }


def _blocks(runs: Sequence[ComparedRun], tables: Mapping[str, pl.DataFrame]) -> dict[str, Block]:
    results = runs[0].results
    compared = {attack.label for attack in results.attacks}
    models = pl.concat(
        threat_table(run.study, run.results.record["perturbations"], run.results.pixels).select(
            "attack", pl.lit(run.name).alias("run"), pl.exclude("attack")
        )
        for run in runs
    ).filter(pl.col("attack").is_in(compared))
    own = ("scores", "price", "differences", "threats", "budgets")
    frames = {
        **{name: tables[name] for name in own if name in tables},
        "pairs": tables["pairs"],
        "beside": tables["pairs"],
        "attacks": attack_table(runs[0].study).filter(pl.col("label").is_in(compared)),
        "threat_models": models.sort("attack", maintain_order=True),
        "runs": _runs_table(runs),
    }
    terms = {
        "Score": capitalised(results.score.heading),
        "basis": f"In brackets: {100 * results.settings.confidence:g}\u00a0% intervals over {results.unit}s.",
        "unit": results.unit,
        "units": f"{results.unit}s",
    }
    captions = {name: texts["caption"].format(**terms) for name, texts in CAPTIONS.items()}
    shown = {
        name: Table.of(name, frame, results.unit, captions[name]).filled() for name, frame in frames.items()
    }
    shown["pairs"] = shown["pairs"].select(*PAIRS, *ENDPOINT)
    shown["beside"] = shown["beside"].without(*ENDPOINT, "p")
    axes = {"table2": ("perturbation", "source"), "whitebox": ("", "perturbation")}
    maps = {name: heat(tables[name], "target", *of) for name, of in axes.items() if name in tables}
    return {name: Block(CAPTIONS[name].get("title", ""), table, name) for name, table in shown.items()} | {
        name: Block("", panels, name, captions[name]) for name, panels in maps.items()
    }


def _runs_table(runs: Sequence[ComparedRun]) -> pl.DataFrame:
    facts = {run.name: provenance(run) for run in runs}
    names = dict.fromkeys(name for each in facts.values() for name in each)
    columns = {run: [each.get(name) for name in names] for run, each in facts.items()}
    return pl.DataFrame({"what": [*names]} | columns)
