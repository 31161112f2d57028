"""Checks of what the data say of patients beside their labels."""

from collections import defaultdict

from medrobust.audit.parts import files_by_patient, owners
from medrobust.data.findings import Finding, Severity, quoted
from medrobust.data.listing import Listing

SEX = ("sex", "gender")
"""Attributes that all images of a person share; age and place may differ."""


def two_sexes(listing: Listing) -> list[Finding]:
    """Patients, or lesions, that are women in some images and men in others: these are not one person's."""
    seen: defaultdict[str, set[str]] = defaultdict(set)
    for item, patient in owners(listing).items():
        known = listing.attributes.get(item, {})
        seen[patient] |= {
            str(known[name])[:1].casefold().replace("w", "f") for name in known if name.casefold() in SEX
        }
    mixed = sorted(patient for patient, sexes in seen.items() if len(sexes) > 1)
    if not mixed:
        return []
    says = f"{len(mixed)} {listing.unit}s have images of both sexes: {quoted(mixed)}."
    advice = "Find out whether two people share an identifier, or which of the two is right."
    files = tuple(file for patient in mixed for file in files_by_patient(listing)[patient])
    return [Finding("two sexes", Severity.WARNING, says, advice, files)]
