"""Counts knee bends in a video: the angle of docs/motion.md, with gaps filled, and filtered.

python examples/angles.py clip.mp4     (pip install 'lithepose[motion]')
"""

import sys

import numpy as np

import lithepose
from lithepose.motion.table import MotionConfig, curves_of
from lithepose.motion.tracks import Tracks

tracks = Tracks()
for frame in lithepose.load().stream(sys.argv[1], track=True):
    tracks.add(frame.frame, frame.poses)
curves, notes = curves_of(tracks, MotionConfig(angles="knee", fill=0.2, lowpass=4.0))
for note in notes:
    print(note)
for person in curves:
    for angle, degrees in person.angles.items():
        bent = np.abs(degrees[np.isfinite(degrees)]) > 60
        print(f"person {person.track.id}, {angle.name}: {np.count_nonzero(np.diff(bent.astype(int)) == 1)} bends")
