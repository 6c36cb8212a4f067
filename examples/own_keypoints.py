"""A network for joints of your own: trained, exported and run. docs/own-data.md says what the folder holds.

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
