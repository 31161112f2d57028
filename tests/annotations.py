"""What checks annotations at every call; by name, as jaxtyping's import hook wants it."""

from beartype import BeartypeConf, beartype

check = beartype(conf=BeartypeConf(is_pep484_tower=True))  # an int is a float, as for mypy
