"""Loading a model: the pipeline that a network needs is chosen by what its file says."""

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
        model: name of an embedded model, or a model file that ``lithepose export`` wrote. A
            network on person crops, as the default ``lithe``, is joined with a person detector.
        size: longer side of the input, of the detector where there is one; 0 takes the model's own. Larger finds
            smaller people and takes longer.
        threads: of each network; 0 takes one a core.
        config: thresholds of the decoder.
        flip: average with the mirrored image.
        scales: of the size, to average over; not for networks on person crops.
        detector: name or file of another person detector than the embedded one.
        runtime: of each network: auto, onnx, openvino or torch, see
            :func:`lithepose.inference.models.open_runtime`, of device and precision as well.
        device: cpu, cuda, tensorrt, coreml or directml; never another than that.
        precision: fp32, bf16 or int8; by default the file's own.

    Raises:
        ConfigError: no such model, or an option that it does not have.
        MissingFileError: no such file.
        ModelError: no model, or the device is not there.
    """
    network = open_runtime(model, threads, runtime, device, precision)
    if not network.info.crop:
        if detector:
            raise ConfigError(f"detector {detector}: {network.info.name} takes whole images; leave it out")
        return Predictor(network, size=size, config=config, flip=flip, scales=scales)
    pose = Predictor(network, config=config, flip=flip, scales=scales)
    name = detector or manifest().get(str(model), {}).get("detector", DETECTOR)
    # A pose network in int8 goes with a detector that may not be.
    has_int8 = "int8" in manifest().get(str(name), {})
    if runtime == "torch" and not weights_file(name).with_suffix(".safetensors").is_file():
        runtime = "auto"  # an installed package has the detector as ONNX alone
    finder = open_runtime(name, threads, runtime, device, precision if precision != "int8" or has_int8 else "")
    return TopDown(pose, PersonDetector(finder, size=size))
