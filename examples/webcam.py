"""Prints who raises a hand in front of a camera (0, 1, ...), in a video or in a stream, until Ctrl-C.

python examples/webcam.py 0
"""

import contextlib
import sys

import lithepose

model = lithepose.load()
with contextlib.suppress(KeyboardInterrupt):
    for frame in model.stream(sys.argv[1], track=True):
        for person in frame.poses:
            for side in ("left", "right"):
                wrist, shoulder = person[f"{side}_wrist"], person[f"{side}_shoulder"]
                if wrist.y < shoulder.y:  # False if one of them was not found, because its y is NaN
                    print(f"{frame.time:.2f} s: person {person.id} raises the {side} hand")
