"""Trains, exports and runs a network for your own joints. docs/own-data.md describes the folder.

python examples/own_keypoints.py mine.toml folder image.png     (pip install 'lithepose[train]')
"""

import sys

import lithepose

recipe, folder, image = sys.argv[1:4]
weights = lithepose.train(lithepose.Recipe.read(recipe), folder, "runs/mine")
lithepose.export(weights, "mine.onnx")
model = lithepose.load("mine.onnx")
print("joints:", ", ".join(model.joints))
print(model(image))
