"""Input and output folders of an item, and its result."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..data.formats import open_dataset
from ..errors import MissingFileError, OutputError
from ..timing import Row, about, cpu
from ..training.config import Source
from .generated import write_sticks

ROOT = Path(__file__).parents[2]
MINI_STEPS = 24
MINI_IMAGES = 8  # number of images for measuring a mini run
TRAIN_IMAGES = 64  # number of its training images


@dataclass(frozen=True)
class Images:
    """Annotated images: a training and a validation part."""

    name: str
    train: Source
    validation: Source


@dataclass(frozen=True)
class Work:
    """One call of ``lithepose reproduce``.

    Attributes:
        data: folder of the recipes' data sets.
        out: folder for tables, images and runs.
        mini: few steps with small inputs on few images.
        steps: steps of a mini run's trainings.
        runs: folder of finished trainings, named after their recipes.
    """

    data: Path
    out: Path
    mini: bool = False
    steps: int = MINI_STEPS
    runs: Path | None = None

    def many_people(self) -> Images:
        """Find small data of many people for a mini run: COCO images, the data folder itself, or drawings."""
        found = self._find("coco-full.tar")
        if found:
            return Images(
                found.name,
                Source(str(found), first=TRAIN_IMAGES, mosaic=False),
                Source(str(found), "val", first=MINI_IMAGES),
            )
        return self._own() or self._drawn()

    def one_person(self, faces: bool = False) -> Images:
        """Return small data of one person; with ``faces``, with joints of the face."""
        name = "lspet-people-{}.json.gz" if faces else "lspet-1.tar"
        train, held_back = (self._find(name.format(split)) for split in ("train", "val"))
        images = tuple(str(path) for path in (self._find(f"lspet-{i}.tar") for i in (1, 2)) if path)
        if not train or not held_back or len(images) < 2:
            return self.many_people()
        images = images if faces else images[1:]  # the first also has the annotations
        least = 10 if faces else 1
        return Images(
            train.name,
            Source(str(train), images=images, first=TRAIN_IMAGES, joints=least),
            Source(str(held_back), "val", images, first=MINI_IMAGES, joints=least),
        )

    def _find(self, name: str) -> Path | None:
        """Find a file in the data folder, or in its subfolder ``data``."""
        places = (self.data / name, self.data / "data" / name)
        return next((path.resolve() for path in places if path.is_file()), None)

    def _own(self) -> Images | None:
        """Return the data folder itself if it is a data set in COCO-keypoint form."""
        if not all((self.data / f"{split}.json").is_file() for split in ("train", "val")):
            return None
        open_dataset(self.data, "val")  # raises if it is invalid
        folder = str(self.data.resolve())
        return Images(
            self.data.name, Source(folder, first=TRAIN_IMAGES, mosaic=False), Source(folder, "val", first=MINI_IMAGES)
        )

    def _drawn(self) -> Images:
        """Return stick figures, which are drawn once."""
        folder = (self.out / "generated").resolve()
        write_sticks(folder)
        return Images("generated stick figures", Source(str(folder), mosaic=False), Source(str(folder), "val"))


def recipe_file(name: str) -> Path:
    """Return a recipe of the repository by its name without suffix.

    Raises:
        MissingFileError: the package does not run from a copy of the repository, or the recipe does not exist.
    """
    places = [f"recipes/{name}.toml", f"research/*/recipes/{name}.toml"]
    found = [path for root in (ROOT, Path()) for place in places for path in root.glob(place)]
    if not found:
        raise MissingFileError(
            f"{name}.toml: no such recipe here or in {ROOT}; run the command in a copy of the repository"
        )
    return found[0]


@dataclass(frozen=True)
class Result:
    """Result of an item.

    Attributes:
        rows: rows of the table; the columns are the keys of all rows. Columns that begin with ``paper`` hold the
            paper's figures.
        draw: writes the image to a given path.
        conditions: differences of the run from the paper, one sentence each.
    """

    rows: Sequence[Row]
    draw: Callable[[Path], None]
    conditions: Sequence[str] = field(default_factory=tuple)


def write_result(result: Result, folder: Path, name: str, title: str, mini: bool) -> list[Path]:
    """Write the table, page and image of an item.

    Args:
        result: the result.
        folder: folder for the three files; made if missing.
        name: name of the files, without suffix.
        title: title of the page.
        mini: whether the figures come from a mini run and have little meaning.

    Returns:
        the files: ``.csv``, ``.md`` and ``.png``.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be created ({error.strerror}); choose another --out") from error
    table, page, image = (folder / f"{name}.{suffix}" for suffix in ("csv", "md", "png"))
    columns = list(dict.fromkeys(column for row in result.rows for column in row))
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(result.rows)
    result.draw(image)
    page.write_text(_page(result, columns, image.name, title, mini), encoding="utf-8")
    return [table, page, image]


def _page(result: Result, columns: list[str], image: str, title: str, mini: bool) -> str:
    lines = [f"# {title}", ""]
    if mini:
        lines += ["**A mini run.** It shows that the pipeline works; its accuracies, losses and times mean little.", ""]
    lines += ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(str(row.get(column, "")) for column in columns) + " |" for row in result.rows]
    lines += ["", f"![{title}]({image})", "", "Differences from the paper's conditions:", ""]
    lines += [f"- {sentence}" for sentence in result.conditions]
    return "\n".join([*lines, f"- {cpu()}, {about()}", ""])
