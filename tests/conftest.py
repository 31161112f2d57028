"""Before anything is imported: one thread per process, and shapes in annotations are checked."""

import os

# Several test processes that use all cores each are slower by far than single-threaded ones.
os.environ.setdefault("OMP_NUM_THREADS", "1")

if os.environ.get("MEDROBUST_CHECK_SHAPES", "1") == "1":
    from jaxtyping import install_import_hook

    install_import_hook("medrobust", "beartype.beartype")
