"""Finds people in an image, prints their joints and draws them.

python examples/image.py image.jpg drawn.jpg
"""

import sys

import lithepose

source, drawn = sys.argv[1:3]
model = lithepose.load()
poses = model(source)
print(poses)
for person in poses:
    print(f"score {person.person_score:.2f}, box {person.box.round().tolist()}")
    for name, found in zip(poses.joints, person.visible, strict=True):
        if found:
            print(f"  {name}: {person[name].x:.0f}, {person[name].y:.0f}, score {person[name].score:.2f}")
poses.save(drawn)
