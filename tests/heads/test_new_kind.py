"""A kind of output that the package does not have, added as docs/architecture.md says."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from lithepose.errors import ConfigError, ModelError
from lithepose.heads import HEADS, head_from_dict, head_to_dict, of_kind
from lithepose.heads.base import DecodeConfig, Head, keep_people
from lithepose.heads.heatmaps import HeatmapHead
from lithepose.heads.outputs import Found
from lithepose.heads.pafs import PafHead
from lithepose.inference.predictor import Predictor
from lithepose.runtime.base import ModelInfo
from lithepose.skeleton import Skeleton

DOT = Skeleton("dot", ("centre",))


@dataclass(frozen=True)
class DotHead(Head[Found]):
    """One point, in shares of the input of ``side`` pixels."""

    side: int = 64
    corners: tuple[tuple[int, int], ...] = ((0, 0), (63, 63))

    def decode(self, output: Found, config: DecodeConfig) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return keep_people(output.xy * self.side, output.score, output.person_score, config)

    def unmirror(self, output: Found, width: int) -> Found:
        return Found(output.xy * [-1, 1] + [(width - 1) / self.side, 0], output.score, output.person_score)

    def average(self, views):
        scores = (getattr(views[0][0], name) for name in ("score", "person_score"))
        return Found(np.mean([view.xy for view, _ in views], 0), *scores)


class Brightest:
    """A network that answers with the brightest pixel."""

    def __init__(self, head: DotHead) -> None:
        self.info = ModelInfo("brightest", head, 32, 64)

    def __call__(self, images: np.ndarray) -> list[Found]:
        results = []
        for image in images:
            y, x = np.unravel_index(int(image[..., 0].argmax()), image.shape[:2])
            results.append(Found(np.array([[[x, y]]]) / 64, np.ones((1, 1)), np.ones(1)))
        return results


@pytest.mark.parametrize("flip", [False, True])
def test_a_predictor_decodes_and_flips_a_new_kind(flip):
    image = np.zeros((64, 64, 3), np.uint8)
    image[20, 41] = 255
    poses = Predictor(Brightest(DotHead(DOT, DOT)), flip=flip)(image)
    assert poses.xy[0, 0] == pytest.approx([41, 20])


def test_a_model_file_can_name_a_new_kind(monkeypatch):
    monkeypatch.setitem(HEADS, "DotHead", DotHead)
    head = DotHead(DOT, DOT, side=128)
    assert head_from_dict(head_to_dict(head), {}) == head
    info = ModelInfo("brightest", head, 32, 128)
    assert ModelInfo.from_json(info.to_json()) == info


def test_tables_are_looked_up_by_kind_and_say_what_they_lack():
    table = {HeatmapHead: "maps"}
    assert of_kind(table, HeatmapHead(DOT, DOT)) == of_kind(table, PafHead(DOT, DOT)) == "maps"
    with pytest.raises(ConfigError, match="DotHead: unsupported kind of output; supported: HeatmapHead"):
        of_kind(table, DotHead(DOT, DOT))
    with pytest.raises(ModelError, match="DotHead is not supported by this version"):
        head_from_dict(head_to_dict(DotHead(DOT, DOT)), {})
