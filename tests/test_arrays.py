"""Shape annotations are checked in tests, and need no package elsewhere."""

import subprocess
import sys

import numpy as np
import pytest
from jaxtyping import TypeCheckError

from lithepose.geometry import warp
from lithepose.heads.boxes import box_iou
from lithepose.heads.outputs import Boxes


def test_a_wrong_shape_is_caught():
    with pytest.raises(TypeCheckError, match="n 4"):
        box_iou(np.zeros((2, 3)), np.zeros((2, 4)))
    with pytest.raises(TypeCheckError, match="score"):  # three boxes with two scores
        Boxes(np.zeros((3, 4), np.float32), np.zeros(2, np.float32))
    with pytest.raises(TypeCheckError, match="image"):
        warp(np.zeros((8, 8), np.uint8), np.eye(2, 3), (4, 4))


def test_annotations_need_no_package():
    code = "import sys; sys.modules['jaxtyping'] = None; import lithepose; print(lithepose.load().joints[0])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "nose\n"
