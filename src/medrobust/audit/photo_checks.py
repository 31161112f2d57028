"""Checks of photographs, each a function of the evidence; `PHOTO_CHECKS` lists them."""

from collections.abc import Callable
from pathlib import Path

from medrobust.audit.copies import equal_photos, similar_photos
from medrobust.audit.records import PhotoEvidence, PhotoLook
from medrobust.audit.sizes import small_classes
from medrobust.data.findings import Finding, Severity, refused

SUFFIXES = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "PNG": (".png",),
    "TIFF": (".tif", ".tiff"),
    "BMP": (".bmp", ".dib"),
    "GIF": (".gif",),
    "WEBP": (".webp",),
    "JPEG2000": (".jp2", ".j2k", ".jpf", ".jpx"),
    "MPO": (".jpg", ".jpeg", ".mpo"),
}
"""How files of each format may be called."""

CLIPPED = 0.2
"""Share of purely white pixels that is too much."""


def unreadable(evidence: PhotoEvidence) -> list[Finding]:
    """Files that are missing, damaged, cut short, or no images."""
    return [
        refused("unreadable file", says, path)
        for record in evidence.records
        for path, says in record.errors.items()
    ]


def empty_masks(evidence: PhotoEvidence) -> list[Finding]:
    """Masks with nothing inside."""
    return [
        Finding(
            "empty mask",
            Severity.WARNING,
            f"{record.photo.mask} is black: nothing is inside.",
            "Right where there is nothing to find: the photograph has no Dice, and what networks show in it "
            "is counted as false. Else find its mask.",
            (record.photo.path, record.photo.mask),
        )
        for record in evidence.records
        if record.photo.mask and record.inside == 0
    ]


def misnamed(evidence: PhotoEvidence) -> list[Finding]:
    """Files whose ending promises another format than they hold."""
    wrong = [
        (photo.path, look.form)
        for photo, look in evidence.readable
        if look.form in SUFFIXES and photo.path.suffix.lower() not in SUFFIXES[look.form]
    ]
    return [
        Finding(
            "misnamed file",
            Severity.NOTE,
            f"{path} is a {form} file by its content.",
            "It is read as what it is; rename it, for programs that trust the name.",
            (path,),
        )
        for path, form in wrong
    ]


def constant(evidence: PhotoEvidence) -> list[Finding]:
    """Photographs that show nothing."""
    return [
        Finding(
            "constant image",
            Severity.ERROR,
            f"{photo.place} shows nothing: no channel varies by more than {look.contrast}.",
            "Look at it, and take it out, or replace it.",
            (photo.place,),
        )
        for photo, look in evidence.readable
        if look.is_blank
    ]


def clipped(evidence: PhotoEvidence) -> list[Finding]:
    """Photographs that are white over a large part."""
    return [
        Finding(
            "clipped intensities",
            Severity.WARNING,
            f"{photo.place} is purely white in {look.clipped:.0%} of its pixels: what was there is lost.",
            "Look at it: overexposed photographs and scanned paper are better left out.",
            (photo.place,),
        )
        for photo, look in evidence.readable
        if look.clipped > CLIPPED and not look.is_blank
    ]


def few_bits(evidence: PhotoEvidence) -> list[Finding]:
    """8-bit values in 16-bit files."""
    return [
        Finding(
            "wrong bit depth",
            Severity.WARNING,
            f"{photo.place} is a 16-bit file with 8-bit content: its largest value is {look.high}.",
            "It looks black. Save it with 8 bits, or scale it to the 16 bits that the file promises.",
            (photo.place,),
        )
        for photo, look in evidence.readable
        if look.bits == 16 and look.high <= 255 and not look.is_blank
    ]


def turned(evidence: PhotoEvidence) -> list[Finding]:
    """Photographs that their EXIF tag turns."""
    return _note(
        evidence,
        "EXIF rotation",
        lambda look: look.turned,
        "are stored turned, and set upright by their EXIF tag",
        "They are read upright; programs that ignore the tag see them turned.",
    )


def transparent(evidence: PhotoEvidence) -> list[Finding]:
    """Photographs with transparent pixels."""
    return _note(
        evidence,
        "alpha channel",
        lambda look: look.alpha,
        "have transparent pixels",
        "What is transparent lies on black when it is read: see that it is no mask.",
    )


def four_colours(evidence: PhotoEvidence) -> list[Finding]:
    """Photographs for print."""
    return _note(
        evidence,
        "CMYK image",
        lambda look: look.mode in ("CMYK", "YCCK"),
        "are CMYK images",
        "They are converted without their colour profile: save them as RGB, or their colours are off.",
    )


def mixed_colours(evidence: PhotoEvidence) -> list[Finding]:
    """Grey photographs among colour ones, or the other way around."""
    grey = {look.grey for _, look in evidence.readable}
    if len(grey) < 2:
        return []
    fewer = 2 * sum(look.grey for _, look in evidence.readable) <= len(evidence.readable)
    return _note(
        evidence,
        "grey and colour mixed",
        lambda look: look.grey is fewer,
        "are grey among colour images" if fewer else "are in colour among grey images",
        "A network may learn the camera instead of the disease: see that classes do not differ in it.",
    )


def _note(
    evidence: PhotoEvidence, kind: str, applies: Callable[[PhotoLook], bool], says: str, advice: str
) -> list[Finding]:
    """One note for all photographs that something applies to."""
    files: tuple[Path, ...] = tuple(photo.place for photo, look in evidence.readable if applies(look))
    if not files:
        return []
    says = f"{len(files)} of {len(evidence.records)} photographs {says}."
    return [Finding(kind, Severity.NOTE, says, advice, files)]


PHOTO_CHECKS: tuple[Callable[[PhotoEvidence], list[Finding]], ...] = (
    unreadable,
    empty_masks,
    constant,
    equal_photos,
    similar_photos,
    few_bits,
    clipped,
    small_classes,
    misnamed,
    turned,
    transparent,
    four_colours,
    mixed_colours,
)
"""All checks of photographs; a further kind of finding is a function here."""
