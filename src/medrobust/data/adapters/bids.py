"""BIDS data sets with discrete segmentations as derivatives.

    sub-01/[ses-1/]anat/sub-01[_ses-1]_T1w.nii.gz
    derivatives/<pipeline>/sub-01/[ses-1/]anat/sub-01[_ses-1][_space-orig][_desc-aseg]_dseg.nii.gz
    derivatives/<pipeline>/[desc-aseg_]dseg.tsv (index, name, color)
    participants.tsv (participant_id, and perhaps age, sex, site)

Gorgolewski et al., Scientific Data 3, 160044 (2016); the names are those of the specification, 1.4 and later.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from medrobust.data.adapters.pairing import scans_of, volumes_below
from medrobust.data.attributes import told
from medrobust.data.files import read_table
from medrobust.data.findings import Finding, error, quoted
from medrobust.data.listing import Scan, Scans
from medrobust.data.scans.labels import Ignored, LabelMap, Labels, label_map, read_label_file
from medrobust.data.scans.volumes import stem
from medrobust.errors import DataError, StudyError

SAME = ("sub", "ses", "run", "acq", "rec", "ce", "echo")
"""Entities that an image and its labels share; labels may omit all but sub and ses."""

ATTRIBUTES = {name: name for name in ("age", "sex", "site")}
"""Columns of the table of participants that become attributes."""

ORIGINAL = (None, "orig", "individual", "T1w")
"""Spaces in which labels lie on the grid of the raw image."""

Entities = Mapping[str, str]


def list_bids(
    root: Path,
    *,
    images: str | list[str] = "T1w",
    pipeline: str | None = None,
    desc: str | None = None,
    space: str | None = None,
    labels: Labels | str | None = None,
    ignore: Ignored | None = None,
) -> Scans:
    """Scans of a BIDS data set, each with a *_dseg file.

    Args:
        root: Folder of the data set, or of a derivative that holds images and labels.
        images: Suffix of the images; several are the channels, in this order, e.g. [T1w, T2w].
        pipeline: Folder below derivatives/ that holds the labels; None: the only one that holds any.
        desc: Only labels with this desc- entity; None: any.
        space: Only labels in this space, with the images that the pipeline has in it; None: any.
        labels: Numbers of each class, or a file that gives them; None: their *dseg.tsv.
        ignore: Numbers of voxels that nobody labelled, which count nowhere, e.g. 255.

    Raises:
        StudyError: There are several pipelines to choose from, or the mapping cannot be used.
        DataError: There are no labels, or no table of their numbers. Labels without an image are findings.
    """
    suffixes = [images] if isinstance(images, str) else images
    paths = volumes_below(root)
    home = _home(root, paths, pipeline)
    wanted = {"desc": desc, "space": space}
    segmentations = {
        path: entities
        for path in paths
        if stem(path).endswith("_dseg") and path.is_relative_to(home)
        for entities in [_entities(path)]
        if "sub" in entities and all(value in (None, entities.get(key)) for key, value in wanted.items())
    }
    if not segmentations:
        raise DataError(f"{home} holds no *_dseg.nii.gz with desc {desc} and space {space}. Choose others.")
    derived, findings = ("derivatives", "sourcedata"), list[Finding]()
    places = [  # where images may lie: the raw data, and the pipeline itself
        path for path in paths if path.is_relative_to(home) or path.relative_to(root).parts[0] not in derived
    ]
    scans = _scans(segmentations, suffixes, places, home, findings)
    used = [scan.labels for scan in scans.values()] or list(segmentations)
    own_map = label_map(labels, root, ignore) if labels else _table(root, used).ignoring(ignore)
    table, key, people = root / "participants.tsv", "participant_id", dict[str, dict[str, str]]()
    if table.is_file():
        people = told(read_table(table, [key], ATTRIBUTES), key, ATTRIBUTES, findings)
    return scans_of(
        scans.values(),
        own_map,
        "patient",
        findings,
        {
            "labels": f"{len(own_map.names) - 1} structures of {home.name}",
            "channels": ", ".join(suffixes),
            "patients": "sub- of the files' names",
        },
        attributes={
            name: people[scan.patient_id] for name, scan in scans.items() if scan.patient_id in people
        },
    )


def _scans(
    segmentations: Mapping[Path, Entities],
    suffixes: Sequence[str],
    places: Iterable[Path],
    home: Path,
    findings: list[Finding],
) -> dict[str, Scan]:
    """Label files with their images, by the entities of the scan."""
    scans: dict[str, Scan] = {}
    for path, entities in segmentations.items():
        found = [_image(places, suffix, path, entities, home, findings) for suffix in suffixes]
        own = tuple(image for image in found if image is not None)
        scan = "_".join(f"{key}-{entities[key]}" for key in SAME if key in entities)
        if scan in scans:
            says = f"{scans[scan].labels} and {path} are labels of the same scan."
            advice = "Choose with data.desc or data.space. The second is left out."
            findings.append(error("listed twice", says, advice, scans[scan].labels, path))
        elif len(own) == len(suffixes):
            scans[scan] = Scan(scan, f"sub-{entities['sub']}", own, path)
    return scans


def _home(root: Path, paths: Iterable[Path], pipeline: str | None) -> Path:
    """The folder of the labels: a pipeline of derivatives/, or the root."""
    derivatives = root / "derivatives"
    with_labels = {
        path.relative_to(derivatives).parts[0]
        for path in paths
        if stem(path).endswith("_dseg") and path.is_relative_to(derivatives)
    }
    if pipeline is not None:
        if pipeline not in with_labels:
            raise DataError(
                f"data.pipeline: {derivatives / pipeline} holds no *_dseg.nii.gz. "
                f"Those that do: {quoted(sorted(with_labels)) or 'none'}."
            )
        return derivatives / pipeline
    if len(with_labels) > 1:
        raise StudyError(f"data.pipeline: several hold labels, {quoted(sorted(with_labels))}. Name one.")
    return derivatives / with_labels.pop() if with_labels else root


def _entities(path: Path) -> dict[str, str]:
    """The entities of a name, e.g. sub-01_desc-aseg_dseg: {sub: 01, desc: aseg}."""
    parts = (part.partition("-") for part in stem(path).split("_")[:-1])
    return {key: value for key, dash, value in parts if dash and key and value}


def _image(
    places: Iterable[Path], suffix: str, labels: Path, entities: Entities, home: Path, findings: list[Finding]
) -> Path | None:
    """The image that labels lie on: the raw one, or the pipeline's own in the same space."""
    named = (path for path in places if stem(path).endswith(f"_{suffix}"))
    fitting = [path for path in named if _is_of(_entities(path), entities)]
    raw = [path for path in fitting if not path.is_relative_to(home)]
    chosen = raw or fitting
    if len(chosen) == 1:
        return chosen[0]
    where = f" in the space {entities['space']}" if "space" in entities else ""
    shown = f": {quoted([str(path) for path in chosen])}." if chosen else "."
    says = f"{labels} has {len(chosen)} images *_{suffix}.nii.gz{where}{shown}"
    kind = "several images" if chosen else "image missing"
    advice = "Exactly one is needed: correct data.images, or put the raw data beside derivatives/."
    findings.append(error(kind, says, advice, labels, *chosen))
    return None


def _is_of(image: Entities, labels: Entities) -> bool:
    """Whether an image is of the same scan as labels, in the same space."""
    spaces = {image.get("space"), labels.get("space")}
    return (
        all(image.get(key) == labels.get(key) for key in SAME[:2])
        and all(image.get(key) == labels[key] for key in SAME[2:] if key in labels)
        and (len(spaces) == 1 or spaces <= set(ORIGINAL))
    )


def _table(root: Path, segmentations: Iterable[Path]) -> LabelMap:
    """What the numbers mean, by the *dseg.tsv nearest to each label file; all must agree."""
    first, *others = dict.fromkeys(_nearest(root, path) for path in segmentations)
    labels = read_label_file(first)
    for table in others:
        if read_label_file(table) != labels:
            raise DataError(f"{table} and {first} name different labels. Give `labels` in the study.")
    return labels


def _nearest(root: Path, labels: Path) -> Path:
    """BIDS's inheritance principle: the table with the same entities, or fewer, in this folder or above."""
    entities = _entities(labels).items()
    for folder in labels.parents:
        tables = [
            path
            for path in sorted(folder.glob("*dseg.tsv"))
            if not path.name.startswith(".") and _entities(path).items() <= entities
        ]
        if tables:
            return max(tables, key=lambda path: len(_entities(path)))
        if folder == root:
            break
    raise DataError(
        f"{labels} has no dseg.tsv that says what its numbers mean, neither beside it nor above. "
        "Add one (columns index and name), or give `labels` in the study."
    )
