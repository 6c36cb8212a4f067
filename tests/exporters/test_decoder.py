"""The decoder in JavaScript gives the people that Python gives, on ten images."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import SAMPLES

import lithepose
from lithepose.geometry import crop_matrix
from lithepose.inference.detector import PersonDetector
from lithepose.media.image import read_image

DECODER = Path(lithepose.__file__).parent / "server" / "static" / "decode.mjs"
SCRIPT = """
import { readFileSync } from "node:fs";
const { decodeBoxes, cropOf, decodePeople } = await import(process.argv[1]);
const images = JSON.parse(readFileSync(0, "utf8"));
process.stdout.write(JSON.stringify(images.map((one) => {
  const found = decodeBoxes(one.boxes, one.box_score, one.back);
  const people = decodePeople(found, one.xy, one.score, one.person_score, one.back);
  return { boxes: found.map(({ box }) => box), crops: found.map(({ box }) => cropOf(box)), people };
})));
"""


def scenes() -> list[np.ndarray]:
    """Ten images of one to three people, some of them cut off or twice at nearly one place."""
    astronaut, camera = (read_image(SAMPLES / f"{name}.jpg") for name in ("astronaut", "camera"))
    images = [astronaut, camera, np.hstack([astronaut, camera]), np.hstack([camera, astronaut, camera])]
    images += [np.ascontiguousarray(image[:, ::-1]) for image in images[:2]]
    images += [cv2.resize(images[2], (300, 150)), cv2.resize(astronaut, (200, 330)), astronaut[:, 150:], camera[40:400]]
    return images


@pytest.mark.skipif(shutil.which("node") is None, reason="no node on this machine")
def test_the_decoder_in_javascript_gives_the_same_people():
    model = lithepose.load(threads=1, runtime="onnx")
    assert isinstance(model, lithepose.TopDown)
    detector = model.finder
    assert isinstance(detector, PersonDetector)
    asked, boxes_of, expected = [], [], []
    for image in scenes():
        pixels, back = detector.prepare(image)
        (found,) = detector.runtime(pixels[None])
        boxes = detector.finish(found, back).xywh
        crops = np.stack([model.predictor.person_crop(image, box)[0] for box in boxes.tolist()])
        outputs = model.predictor.runtime(crops)
        size = {"width": back.width, "height": back.height, "scaleX": back.scale_x, "scaleY": back.scale_y}
        raw = {"boxes": found.xyxy.tolist(), "box_score": found.score.tolist(), "back": size}
        raw |= {name: [getattr(o, name)[0].tolist() for o in outputs] for name in ("xy", "score", "person_score")}
        asked.append(raw)
        boxes_of.append(boxes)
        expected.append(model(image))
    command = ["node", "--input-type=module", "-e", SCRIPT, DECODER.as_uri()]
    done = subprocess.run(command, input=json.dumps(asked), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    decoded = json.loads(done.stdout)
    assert len(decoded) == 10
    assert sum(map(len, expected)) >= 10
    for one, boxes, poses in zip(decoded, boxes_of, expected, strict=True):
        assert np.allclose(one["boxes"], boxes, atol=1e-3)
        for crop, box in zip(one["crops"], boxes.tolist(), strict=True):
            ((zoom, _, dx), (_, _, dy)) = crop_matrix(box, (256, 192)).tolist()
            assert np.allclose([crop["zoom"], crop["dx"], crop["dy"]], [zoom, dx, dy], atol=1e-3)
        assert len(one["people"]) == len(poses)
        for person, xy, score, whole in zip(one["people"], poses.xy, poses.score, poses.person_score, strict=True):
            assert abs(person["score"] - whole) < 1e-5
            for joint, place, sure in zip(person["joints"], xy, score, strict=True):
                assert (joint is None) == (sure == 0)
                if joint:
                    assert np.hypot(joint["x"] - place[0], joint["y"] - place[1]) < 0.01
                    assert abs(joint["score"] - sure) < 1e-5
