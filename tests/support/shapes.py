"""The checker of annotations while tests run: beartype, with an int allowed where a float is annotated."""

from beartype import BeartypeConf, beartype

typechecker = beartype(conf=BeartypeConf(is_pep484_tower=True))
