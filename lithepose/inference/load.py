"""Loads a model; the metadata in its file selects the pipeline."""

from __future__ import annotations

from pathlib import Path

from ..errors import ConfigError
from ..guesses import with_hints
from ..heads.base import DecodeConfig
from .detector import DETECTOR, PersonDetector
from .models import manifest, open_runtime, weights_file
from .predictor import DEFAULT, Predictor
from .top_down import TopDown


@with_hints
def load(
    model: str | Path = DEFAULT,
    *,
    size: int = 0,
    threads: int = 0,
    config: DecodeConfig | None = None,
    flip: bool = False,
    scales: tuple[float, ...] = (1.0,),
    detector: str | Path = "",
    runtime: str = "auto",
    device: str = "cpu",
    precision: str = "",
) -> Predictor | TopDown:
    """Load a model that finds people.

    Args:
        model: name of an embedded model, or a model file that ``lithepose export`` wrote. A network on person crops,
            such as the default ``lithe``, is combined with a person detector.
        size: longer side of the input (of the detector, if there is one); 0 is the model's own. A larger size finds
            smaller people and takes longer.
        threads: threads of each network; 0 uses one per core.
        config: thresholds of the decoder.
        flip: average with the mirrored image.
        scales: factors of the size to average over; not for networks on person crops.
        detector: name or file of a person detector to use instead of the embedded one.
        runtime: runtime of each network: auto, onnx, openvino or torch; see
            :func:`lithepose.inference.models.open_runtime`, also for device and precision.
        device: cpu, cuda, tensorrt, coreml or directml; no other device is used instead.
        precision: fp32, bf16 or int8; by default the file's own.

    Raises:
        ConfigError: no such model, or an option that it does not have.
        MissingFileError: no such file.
        ModelError: the file is not a model, or the device is missing.
    """
    network = open_runtime(model, threads, runtime, device, precision)
    if not network.info.crop:
        if detector:
            raise ConfigError(
                f"detector {detector}: {network.info.name} runs on full images, without a detector; omit it"
            )
        return Predictor(network, size=size, config=config, flip=flip, scales=scales)
    pose = Predictor(network, config=config, flip=flip, scales=scales)
    name = detector or manifest().get(str(model), {}).get("detector", DETECTOR)
    # The detector of an int8 pose network may have no int8 file.
    has_int8 = "int8" in manifest().get(str(name), {})
    if runtime == "torch" and not weights_file(name).with_suffix(".safetensors").is_file():
        runtime = "auto"  # an installed package has the detector only as ONNX
    finder = open_runtime(name, threads, runtime, device, precision if precision != "int8" or has_int8 else "")
    return TopDown(pose, PersonDetector(finder, size=size))
