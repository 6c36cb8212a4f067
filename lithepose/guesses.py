"""Hints for names that other libraries have and lithepose does not."""

from __future__ import annotations

import difflib
import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

T = TypeVar("T", bound=Callable[..., Any])

MODULE = {
    **dict.fromkeys(("YOLO", "Model", "Pose", "Body", "RTMPose", "RTMO", "PoseLandmarker"), "lithepose.load()"),
    **dict.fromkeys(("predict", "detect", "process", "infer", "run"), "model = lithepose.load(); model('image.jpg')"),
    **dict.fromkeys(("PoseTracker", "ByteTrack"), "model.stream('clip.mp4', track=True)"),
    **dict.fromkeys(("draw_skeleton", "draw_landmarks", "EdgeAnnotator"), "lithepose.draw(image, poses)"),
    **dict.fromkeys(("KeyPoints", "Results"), "lithepose.Poses"),
    **dict.fromkeys(("solutions", "tasks"), "lithepose.load(), and lithepose.draw(image, poses)"),
    "imread": "lithepose.read_image('image.jpg')",
    "imwrite": "lithepose.write_image('image.jpg', image)",
    "models": "`lithepose models` on the command line",
}
MODEL = {
    "names": "model.joints, the names of the joints; all detections are people",
    "track": "model.stream('clip.mp4', track=True), which returns frame by frame",
    **dict.fromkeys(("detect", "process", "infer", "forward", "run", "inference"), "model(image)"),
    "val": "lithepose.evaluate(model, dataset), or `lithepose evaluate` on the command line",
    "train": "lithepose.train(recipe, data, run), or `lithepose train` on the command line",
    "export": "lithepose.export(weights, 'mine.onnx')",
    **dict.fromkeys(("to", "cuda", "half"), "lithepose.load(device='cuda') to run on a GPU"),
    **dict.fromkeys(("cpu", "eval", "fuse"), "the model as it is; no such call is needed"),
    "info": "`lithepose models` on the command line, or model.joints and model.skeleton",
    **dict.fromkeys(("conf", "threshold"), "model.with_config(peak=0.5)"),
    "close": "it without closing",
}
POSES = {
    "keypoints": "poses.xy, (N, K, 2) pixels, and poses.score, (N, K)",
    "landmarks": "poses.xy, (N, K, 2) pixels, or poses.xyn in shares of the image",
    "pose_landmarks": "poses.xyn, (N, K, 2) in shares of the image, and poses.score",
    **dict.fromkeys(
        ("conf", "confidence", "keypoint_confidence", "scores", "visibility"), "poses.score, for the joints"
    ),
    **dict.fromkeys(("bboxes", "bbox", "detections", "xyxyn"), "poses.xyxy, (N, 4) pixels, or poses.xywh"),
    **dict.fromkeys(("names", "keypoint_names"), "poses.joints, the names of the joints"),
    **dict.fromkeys(("class_id", "cls"), "poses directly: all detections are people"),
    **dict.fromkeys(("track_id", "tracker_id", "ids"), "poses.id, from model.stream(..., track=True)"),
    "orig_img": "poses.image",
    "orig_shape": "poses.size, (width, height)",
    "data": "poses.to_numpy(), (N, K, 3)",
    **dict.fromkeys(("numpy", "cpu", "tensor"), "poses.to_numpy(), (N, K, 3)"),
    **dict.fromkeys(("to_csv", "to_excel", "to_parquet"), "poses.to_pandas().to_csv(path) or similar"),
    **dict.fromkeys(("to_df", "pandas"), "poses.to_pandas()"),
    **dict.fromkeys(("tojson", "json"), "poses.to_json()"),
    **dict.fromkeys(("summary", "verbose"), "poses.to_dict()"),
    **dict.fromkeys(("save_txt", "save_json"), "open(path, 'w').write(poses.to_json())"),
    "save_crop": "poses.image[y0:y1, x0:x1] with x0, y0, x1, y1 from poses.xyxy",
    **dict.fromkeys(("draw", "render", "visualize", "annotate"), "poses.plot(), an array, or poses.save(path)"),
    **dict.fromkeys(("people", "persons", "instances"), "for person in poses: ..., or poses[0]"),
    "to_detections": "poses.to_supervision().as_detections()",
    "masks": "poses.xy or poses.xyxy: only joints and boxes are available",
}
PERSON = {
    **dict.fromkeys(("keypoints", "landmarks", "joints"), "person.xy, (K, 2), or person['left_wrist']"),
    **dict.fromkeys(("conf", "confidence", "scores"), "person.score, for the joints, or person.person_score"),
    **dict.fromkeys(("bbox", "xyxy", "boxes", "xywh"), "person.box: x, y, width, height"),
    "track_id": "person.id",
}
FRAME = {
    **dict.fromkeys(("plot", "draw", "save", "show"), "frame.poses.plot(frame.image)"),
    **dict.fromkeys(
        ("boxes", "xyxy", "xy", "score", "id", "keypoints", "to_pandas"), "frame.poses, which has these attributes"
    ),
    **dict.fromkeys(("index", "source", "rate"), "frame.frame.index, frame.frame.source or similar"),
}
KEYWORDS = {
    **dict.fromkeys(("conf", "threshold", "min_detection_confidence"), "use model.with_config(peak=0.5)"),
    **dict.fromkeys(("imgsz", "img_size", "det_input_size"), "use lithepose.load(size=640)"),
    "size": "use lithepose.load(size=640)",
    **dict.fromkeys(("device", "half", "backend", "gpu"), "use lithepose.load(device='cuda')"),
    **dict.fromkeys(("save", "save_txt"), "use model(image).save('drawn.jpg'), or `lithepose predict` for files"),
    "show": "use model(image).show()",
    **dict.fromkeys(("stream", "persist", "tracker"), "use model.stream(source, track=True)"),
    **dict.fromkeys(("classes", "verbose", "iou", "mode", "task"), "omit it; it has no equivalent"),
    **dict.fromkeys(("max_det", "vid_stride"), "use model.stream(source, select=..., read=...)"),
    "weights": "use lithepose.load('mine.onnx')",
    **dict.fromkeys(
        ("boxes", "labels", "line_width", "color", "colour"), "use style=lithepose.DrawStyle(boxes=True, width=2)"
    ),
    **dict.fromkeys(("img", "im"), "use image=..."),
    **dict.fromkeys(("source", "input"), "pass the image without a name: model('image.jpg')"),
}


def no_attribute(owner: str, name: str, table: Mapping[str, str], known: Iterable[str]) -> AttributeError:
    """The error for an attribute that does not exist, with a hint.

    Args:
        owner: object that lacks it, as the subject of the message.
        name: name of the attribute.
        table: names of other libraries, with what to write instead.
        known: names of the object's attributes.
    """
    if name in table:
        return AttributeError(f"{owner} has no attribute {name!r}; use {table[name]}")
    close = [] if name.startswith("_") else difflib.get_close_matches(name, [k for k in known if k[0] != "_"], 1, 0.7)
    return AttributeError(f"{owner} has no attribute {name!r}" + (f"; did you mean {close[0]!r}?" if close else ""))


def with_hints(function: T) -> T:
    """Make a function say what to write instead of a keyword that it does not take.

    Raises:
        TypeError: an unknown keyword; the message has a hint.
    """
    taken = inspect.signature(function).parameters

    @functools.wraps(function)
    def checked(*given: Any, **named: Any) -> Any:
        for name in named:
            if name not in taken:
                has = ", ".join(n for n, p in taken.items() if p.kind == p.KEYWORD_ONLY)
                hint = KEYWORDS.get(name, f"its options are {has}")
                called = "model" if function.__name__ == "__call__" else function.__name__
                raise TypeError(f"{called}() has no option {name}={named[name]!r}; {hint}")
        return function(*given, **named)

    return checked  # pyright: ignore[reportReturnType]
