"""A folder of subjects as FreeSurfer's recon-all leaves it.

    <subject>/mri/norm.mgz    <subject>/mri/aseg.mgz    <subject>/mri/aparc+aseg.mgz

Fischl, "FreeSurfer", NeuroImage 62 (2012). A program made the labels, not a person: scores say how well
networks agree with FreeSurfer.
"""

from pathlib import Path
from typing import Literal

from medrobust.data.adapters.pairing import by_patient, scans_of
from medrobust.data.findings import Finding, error
from medrobust.data.listing import Scan, Scans
from medrobust.data.scans.labels import Labels, label_map
from medrobust.data.scans.structures import FREESURFER_LABELS
from medrobust.errors import DataError


def list_freesurfer(
    root: Path,
    *,
    image: Literal["norm", "brain", "nu", "T1", "orig"] = "norm",
    segmentation: Literal["aseg", "aparc+aseg"] = "aseg",
    labels: Labels | str | None = None,
    patient: str | None = None,
) -> Scans:
    """The subjects of a SUBJECTS_DIR, with the paper's 27 structures unless others are asked for.

    Args:
        root: The folder of the subjects; averages (fsaverage) are ignored.
        image: Volume of the intensities; norm and brain are skull-stripped, nu, T1 and orig are not.
        segmentation: Volume of the labels.
        labels: Other classes, as numbers of FreeSurferColorLUT.txt, e.g. {hippocampus: [17, 53]}, or a file
            that gives them; the volume's other numbers must be listed under background.
        patient: Regular expression that finds the patient in a subject's name, e.g. "^(.+?)_ses-" or, for
            longitudinal names, "^[^.]+"; None: every subject is a patient.

    Raises:
        StudyError: The mapping or the expression cannot be used.
        DataError: No subject has these volumes.
    """
    own = FREESURFER_LABELS if labels is None else label_map(labels, root)
    findings: list[Finding] = []
    scans = []
    folders = [path for path in sorted(root.iterdir()) if (path / "mri").is_dir()]
    subjects = [folder for folder in folders if not folder.name.startswith("fsaverage")]
    for subject in subjects:
        files = [subject / "mri" / f"{name}.mgz" for name in (image, segmentation)]
        if missing := [file for file in files if not file.is_file()]:
            says = f"{subject} has no {' and no '.join(f'mri/{file.name}' for file in missing)}."
            advice = "Finish recon-all, or choose another volume. The subject is left out."
            findings.append(error("volume missing", says, advice, *missing))
        else:
            scans.append(Scan(subject.name, subject.name, (files[0],), files[1]))
    if not scans:
        raise DataError(
            f"data.root: none of {len(subjects)} subjects in {root} has mri/{image}.mgz and "
            f"mri/{segmentation}.mgz. Give the folder of the subjects."
        )
    items, _, how = by_patient(scans, patient, findings)
    facts = {
        "labels": f"{len(own.names) - 1} structures of FreeSurfer's {segmentation}, made by a program",
        "image": f"{image}.mgz",
        "patients": how if patient is not None else "every subject is one",
    }
    return scans_of(items, own, "patient", findings, facts)
