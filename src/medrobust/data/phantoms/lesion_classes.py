"""The ten classes of the phantom lesions: how frequent, of which form, painted how, mistaken for what."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from medrobust.data.phantoms.lesion_pigmented import dermatofibroma, melanoma, nevus, seborrhoeic_keratosis
from medrobust.data.phantoms.lesion_red import (
    actinic_keratosis,
    basal_cell_carcinoma,
    bowen_disease,
    haemangioma,
    pyogenic_granuloma,
    squamous_cell_carcinoma,
)
from medrobust.data.phantoms.lesion_shape import Form, Outline
from medrobust.data.phantoms.lesion_skin import Layers

Painter = Callable[[np.random.Generator, Outline, Layers], None]


class Look(NamedTuple):
    """One class of lesions.

    Attributes:
        meaning: Its name in full.
        images: How many there are in the Dermofit library.
        form: How its outlines are drawn.
        paint: Draws its inside.
        mimics: Classes that some of its lesions partly look like.
    """

    meaning: str
    images: int
    form: Form
    paint: Painter
    mimics: tuple[str, ...]


LOOKS: dict[str, Look] = {
    "AK": Look(
        "actinic keratosis",
        45,
        Form((0.28, 0.38), 0.22, (0.05, 0.1)),
        actinic_keratosis,
        ("IEC", "SCC", "BCC"),
    ),
    "BCC": Look(
        "basal cell carcinoma",
        239,
        Form((0.24, 0.34), 0.15, (0.02, 0.05)),
        basal_cell_carcinoma,
        ("SCC", "AK", "IEC"),
    ),
    "ML": Look("melanocytic nevus", 331, Form((0.18, 0.3), 0.06, (0.015, 0.05)), nevus, ("MEL", "SK", "DF")),
    "SK": Look(
        "seborrhoeic keratosis",
        257,
        Form((0.28, 0.38), 0.16, (0.006, 0.015)),
        seborrhoeic_keratosis,
        ("MEL", "ML"),
    ),
    "SCC": Look(
        "squamous cell carcinoma",
        88,
        Form((0.24, 0.34), 0.14, (0.015, 0.04)),
        squamous_cell_carcinoma,
        ("IEC", "BCC", "AK"),
    ),
    "IEC": Look(
        "intraepithelial carcinoma",
        78,
        Form((0.32, 0.42), 0.28, (0.01, 0.025)),
        bowen_disease,
        ("AK", "SCC", "BCC"),
    ),
    "PYO": Look(
        "pyogenic granuloma",
        24,
        Form((0.15, 0.24), 0.08, (0.008, 0.015), (0.8, 1.0)),
        pyogenic_granuloma,
        ("VASC", "SCC"),
    ),
    "VASC": Look("haemangioma", 97, Form((0.17, 0.29), 0.08, (0.008, 0.02)), haemangioma, ("PYO", "MEL")),
    "MEL": Look(
        "malignant melanoma", 76, Form((0.3, 0.42), 0.34, (0.01, 0.05), (0.65, 0.95)), melanoma, ("ML", "SK")
    ),
    "DF": Look(
        "dermatofibroma",
        65,
        Form((0.18, 0.28), 0.08, (0.05, 0.09), (0.8, 1.0)),
        dermatofibroma,
        ("ML", "BCC"),
    ),
}
