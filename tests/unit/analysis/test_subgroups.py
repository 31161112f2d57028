"""Groups of patients: who is in them, what is not said, and that no group has another's images."""

import math
from dataclasses import replace

import polars as pl
import pytest

import made_rows
from medrobust.analysis import tables
from medrobust.analysis.results import Results
from medrobust.analysis.subgroups import FEWEST, MOST, age_band, subgroup_sentences, subgroups
from medrobust.metrics import Score
from medrobust.storage.schemas import ATTRIBUTES
from medrobust.study.analysis import Settings

PATIENTS = {f"p{number:02d}": 1 + number % 3 for number in range(20)}


def attributes(values: dict[str, dict[str, str]]) -> pl.DataFrame:
    """Attributes of patients, for all of their scans."""
    rows = [
        {"scan_id": f"{patient}-{image}", "patient_id": patient, "attribute": name, "value": value}
        for patient, of_patient in values.items()
        for image in range(PATIENTS[patient])
        for name, value in of_patient.items()
    ]
    return pl.DataFrame(rows, schema=ATTRIBUTES.schema)


def right(cell, patient: str, image: int) -> bool:
    """Under attack women's images of network a are wrong; else one in four."""
    number = int(patient[1:])
    if cell.target == "a" and cell.perturbation in ("fgsm", "deepfool"):
        return number < 10
    return (number + image) % 4 > 0


@pytest.fixture
def photos() -> Results:
    """Ten men and seven women, three of whom nothing is known; ages 12, 17, 22, ..."""
    results = made_rows.classification(right, PATIENTS)
    values = {
        patient: {"age": str(12 + 5 * number)}
        | ({"sex": "male" if number < 10 else "female"} if number < 17 else {})
        for number, patient in enumerate(PATIENTS)
    }
    return replace(results, attributes=attributes(values))


def test_scores_of_a_group_are_those_of_a_study_of_its_patients_alone(photos: Results) -> None:
    women = [f"p{number:02d}" for number in range(10, 17)]
    alone = made_rows.classification(right, {patient: PATIENTS[patient] for patient in women})
    expected = tables.table1(alone).drop("drop_percent", "drop_percent_low", "drop_percent_high")
    found = subgroups(photos).filter(attribute="sex", group="female")
    assert found.select(expected.columns).equals(expected)
    assert found["n_patients"].unique().to_list() == [7]
    assert found["n_cases"].unique().to_list() == [sum(PATIENTS[patient] for patient in women)]


def test_every_case_is_in_one_group_of_each_attribute_and_unknown_is_the_last(photos: Results) -> None:
    table = subgroups(photos).filter(model="a")
    assert table["attribute"].unique(maintain_order=True).to_list() == ["age", "sex"]
    for attribute, groups in (
        ("age", ["under 40", "40 to 59", "60 to 79", "80 and over"]),
        ("sex", ["female", "male", "unknown"]),
    ):
        rows = table.filter(attribute=attribute)
        assert rows["group"].to_list() == groups
        assert rows["n_cases"].sum() == sum(PATIENTS.values())
        assert rows["n_patients"].sum() == len(PATIENTS)


def test_a_group_of_few_patients_is_counted_and_has_no_score(photos: Results) -> None:
    row = subgroups(photos).row(
        by_predicate=(pl.col("group") == "unknown") & (pl.col("model") == "a"), named=True
    )
    assert row["n_patients"] == 3 < FEWEST
    assert row["note"] == "too few patients"
    assert row["clean"] is row["adversarial_high"] is row["drop_points"] is None
    sentence = subgroup_sentences(subgroups(photos), "lesion")[1]
    assert sentence.endswith(" 1 of 3 groups have fewer than 5 lesions and no score.")


def test_sentences_name_the_groups_that_lie_furthest_apart(photos: Results) -> None:
    sentence = subgroup_sentences(subgroups(photos), "patient")[1]
    assert sentence.startswith(
        "By sex: under attack the groups lie furthest apart for a, from 0.000 (female, 7 patients) "
        "to 1.000 (male, 10 patients); these two intervals do not overlap."
    )
    same = replace(photos, attributes=attributes({patient: {"site": "here"} for patient in PATIENTS}))
    (sentence,) = subgroup_sentences(subgroups(same), "patient")
    assert sentence == "By site: nothing to compare, fewer than two groups are large enough."


def test_intervals_that_are_undefined_are_not_compared(photos: Results) -> None:
    """An own score without a highest value has none in a group in which nobody differs from the others."""
    score = Score("gain", lambda labels, predictions: 2.0 * (labels == predictions), bounds=(0.0, math.inf))
    study = replace(photos, settings=Settings(resamples=200, score=score))
    sentence = subgroup_sentences(subgroups(study), "patient")[1]
    assert "from 0.000 (female, 7 patients) to 2.000 (male, 10 patients)." in sentence


@pytest.mark.parametrize(
    ("text", "band"),
    [
        *(("0", "under 40"), ("39.9", "under 40"), ("40", "40 to 59"), ("59.9", "40 to 59")),
        *(("60", "60 to 79"), ("80", "80 and over"), ("200", "unknown"), ("-1", "unknown")),
        *(("nan", "unknown"), ("sixty", "unknown"), ("", "unknown")),
    ],
)
def test_bands_of_age(text: str, band: str) -> None:
    assert age_band(text) == band


def test_rare_values_are_one_group(photos: Results) -> None:
    """Every scan has a value of its own."""
    values = {patient: {"clinic": f"c{number:02d}"} for number, patient in enumerate(PATIENTS)}
    study = made_rows.classification(right, PATIENTS)
    many = replace(
        study,
        attributes=pl.DataFrame(
            [
                {
                    "scan_id": f"{patient}-{image}",
                    "patient_id": patient,
                    "attribute": "clinic",
                    "value": f"{values[patient]['clinic']}/{image}",
                }
                for patient, images in PATIENTS.items()
                for image in range(images)
            ],
            schema=ATTRIBUTES.schema,
        ),
    )
    table = subgroups(many).filter(model="a")
    assert table["group"].to_list()[-1] == "all others"
    assert table.height == MOST + 1
    assert table["n_cases"].sum() == sum(PATIENTS.values())


def test_segmentation_counts_cases_and_takes_the_interval_of_the_study() -> None:
    scans = {f"p{number}": [f"p{number}-0"] for number in range(12)}
    brains = made_rows.segmentation(
        lambda cell, scan, structure: (10, 10, 4 + int(scan[1:].split("-")[0]) % 5),
        scans,
        settings=Settings(resamples=200, interval="percentile"),
    )
    rows = [
        {"scan_id": f"{p}-0", "patient_id": p, "attribute": "site", "value": "A" if number % 2 else "B"}
        for number, p in enumerate(scans)
    ]
    brains = replace(brains, attributes=pl.DataFrame(rows, schema=ATTRIBUTES.schema))
    table = subgroups(brains).filter(model="a")
    assert table["group"].to_list() == ["A", "B"]
    assert table["n_patients"].to_list() == [6, 6]
    assert (table["clean_low"] < table["clean"]).all()


@pytest.mark.parametrize("rows", [None, pl.DataFrame(schema=ATTRIBUTES.schema)])
def test_without_attributes_there_is_no_table(photos: Results, rows: pl.DataFrame | None) -> None:
    table = subgroups(replace(photos, attributes=rows))
    assert table.is_empty()
    assert table.columns == subgroups(photos).columns
    assert subgroup_sentences(table, "patient") == ()
