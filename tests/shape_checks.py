"""What the tests check calls with: beartype, on functions with shape annotations alone."""

from beartype import BeartypeConf, beartype

_check = beartype(conf=BeartypeConf(is_pep484_tower=True))  # an int is a float, as type checkers have it


def check_shapes(function):
    """Wrap a function that passes arrays; others stay as they are."""
    shaped = any("np.ndarray," in str(hint) or "jaxtyping" in str(hint) for hint in function.__annotations__.values())
    return _check(function) if shaped else function
