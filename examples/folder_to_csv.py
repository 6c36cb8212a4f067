"""Writes people of a folder's images and videos to a CSV file, one row per person and joint; skips unreadable files.

python examples/folder_to_csv.py folder poses.csv
"""

import csv
import sys

import lithepose

folder, path = sys.argv[1:3]
model = lithepose.load()
with open(path, "w", newline="") as file:
    writer = csv.writer(file)
    writer.writerow(["source", "seconds", "person", "joint", "x", "y", "score"])
    for frame in model.stream(folder, on_error="warn"):
        for number, person in enumerate(frame.poses):
            for name, (x, y), score in zip(frame.poses.joints, person.xy, person.score, strict=True):
                if score > 0:
                    writer.writerow([frame.frame.source, frame.time, number, name, x, y, score])
