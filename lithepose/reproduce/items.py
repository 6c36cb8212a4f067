"""The tables, figures and stated future works of the five papers: their requirements and costs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module

from ..errors import ConfigError, MissingExtraError
from .work import MINI_STEPS, Result, Work

COCO, LIP, MPII, FLIC = "COCO 2017 as DATA/coco", "LIP as DATA/lip", "MPII as DATA/mpii", "FLIC as DATA/flic"


@dataclass(frozen=True)
class Item:
    """One table, figure or future work.

    Attributes:
        title: description.
        function: function in the paper's module.
        trainings: number of trainings of the full run; 0 if counts or times are enough.
        needs: data or extras of the full run in addition to ``.[train]``.
    """

    title: str
    function: str
    trainings: int = 0
    needs: str = ""

    def cost(self) -> str:
        """Cost of the full run, in words."""
        if not self.trainings:
            return "seconds to minutes"
        return f"{self.trainings} training{'s' if self.trainings > 1 else ''} of the paper's length: days on a GPU"

    def mini_cost(self) -> str:
        """Cost of a mini run, in words."""
        return f"{self.trainings} x {MINI_STEPS} steps" if self.trainings else "no training"


ITEMS: dict[str, Item] = {
    "choi2018binarized/fig3": Item("operations of a 7x7 layer, its module and complete networks", "operations"),
    "choi2018binarized/fig5": Item("losses of four forms", "curves", 4, COCO),
    "choi2018binarized/fig6": Item("part affinity fields over the epochs", "fields", 4, COCO),
    "choi2018binarized/times": Item("seconds per image", "times", needs="extra binary"),
    "choi2018binarized/bits": Item("future work: 1-bit operations", "bits", needs="extra binary"),
    "choi2018binarized/video": Item("future work: start from the previous frame", "video"),
    "huang2019mln/table1": Item("average precision", "accuracy", 2, COCO),
    "huang2019mln/table2": Item("parameters, multiply-adds, size, speed", "complexity"),
    "huang2019mln/fig1": Item("features of Conv-1 and Conv-4 of both branches", "branches", 1, COCO),
    "huang2019mln/fig3": Item("people in colours", "people", 1, COCO),
    "huang2019mln/grouping": Item("time of grouping 1 to 20 people", "grouping"),
    "osokin2019context/table1": Item("masking", "masking", 3, LIP),
    "osokin2019context/table2": Item("context modules: accuracy", "contexts", 4, LIP),
    "osokin2019context/table3": Item("context modules: counts", "modules"),
    "osokin2019context/table4": Item("six and two stages: accuracy by stage and views, time", "stages", 2, LIP),
    "osokin2019context/table5": Item("maps of 64x64 cells", "fine_maps", 1, MPII),
    "osokin2019context/fig5": Item("augmented samples", "augmented"),
    "osokin2019context/fig6-8": Item("receptive fields", "fields"),
    "osokin2019context/profile": Item("time by kind of layer", "where_time_goes"),
    "debnath2018split/table1": Item("elbows and wrists", "accuracy", 1, FLIC),
    "debnath2018split/table2": Item("accuracy, time, parameters, size", "variants", 3, FLIC),
    "debnath2018split/table3": Item("errors in training and validation", "errors", 4, FLIC),
    "debnath2018split/fig1": Item("time per image", "speed"),
    "debnath2018split/fig2b": Item("filters per joint", "allocation"),
    "debnath2018split/fig4": Item("losses in training and validation", "curves", 4, FLIC),
    "debnath2018split/fig5": Item("correct joints over the threshold", "shares", 4, FLIC),
    "hoang2020rcnn/table1": Item("cost of kinds of convolution", "convolutions"),
    "hoang2020rcnn/table2": Item("cost of keypoint heads", "heads"),
    "hoang2020rcnn/table3": Item("accuracy and speed of three heads", "accuracy", 3, COCO),
    "hoang2020rcnn/fig2": Item("detections", "people", 1, COCO),
}


def matching(names: tuple[str, ...]) -> list[str]:
    """Return items by name; a paper's key selects all of its items.

    Raises:
        ConfigError: the item does not exist.
    """
    found = list[str]()
    for name in names:
        own = [item for item in ITEMS if item == name or item.startswith(f"{name.rstrip('/')}/")]
        if not own:
            papers = list(dict.fromkeys(item.split("/")[0] for item in ITEMS))
            near = [item for item in ITEMS if name.split("/")[0] in item] or papers
            raise ConfigError(f"{name}: no such item; choose one of {', '.join(near)} (see lithepose reproduce --list)")
        found += own
    return list(dict.fromkeys(found))


def measure(name: str, work: Work) -> Result:
    """Run one item.

    Raises:
        MissingExtraError: torch or another required package is not installed.
        LitheposeError: an error of its trainings or measurements.
    """
    paper = name.split("/")[0]
    try:
        function: Callable[[Work], Result] = getattr(
            import_module(f"lithepose.reproduce.{paper}"), ITEMS[name].function
        )
        return function(work)
    except MissingExtraError:
        raise
    except ImportError as error:
        package = (error.name or "a package").split(".")[0]
        raise MissingExtraError(f"{name} needs {package}: pip install 'lithepose[train,binary]' ({error})") from error
