"""Shape annotations: ``Float32[np.ndarray, "n k 2"]`` is a float32 array of n x k x 2.

The names and the syntax of shapes are those of jaxtyping; see its documentation. The tests check every call of the
annotated functions. Elsewhere the annotations cost nothing, and jaxtyping need not be installed.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Annotated as Bool
    from typing import Annotated as Float
    from typing import Annotated as Float32
    from typing import Annotated as Float64
    from typing import Annotated as Int
    from typing import Annotated as Real
    from typing import Annotated as Shaped
    from typing import Annotated as UInt8
else:
    try:
        from jaxtyping import Bool, Float, Float32, Float64, Int, Real, Shaped, UInt8
    except ImportError:  # jaxtyping is installed for the tests only

        class _Unchecked:
            def __class_getitem__(cls, annotation: tuple[type, str]) -> type:
                return annotation[0]

        Bool = Float = Float32 = Float64 = Int = Real = Shaped = UInt8 = _Unchecked

__all__ = ["Bool", "Float", "Float32", "Float64", "Int", "Real", "Shaped", "UInt8"]
