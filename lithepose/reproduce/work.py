"""Where an item takes its data from and writes to, and what it hands back."""

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
MINI_IMAGES = 8  # that a mini run is measured on
TRAIN_IMAGES = 64  # that it learns from


@dataclass(frozen=True)
class Images:
    """Annotated images: their training and their validation part."""

    name: str
    train: Source
    validation: Source


@dataclass(frozen=True)
class Work:
    """One call of ``lithepose reproduce``.

    Attributes:
        data: folder that the data sets of recipes are in.
        out: folder for tables, images and runs.
        mini: few steps of small networks' inputs on few images.
        steps: of a mini run's trainings.
        runs: folder of trainings that have been made, by the names of recipes.
    """

    data: Path
    out: Path
    mini: bool = False
    steps: int = MINI_STEPS
    runs: Path | None = None

    def many_people(self) -> Images:
        """Small data of many people for a mini run: COCO images of the folder, itself a data set, or drawn ones."""
        found = self._find("coco-full.tar")
        if found:
            return Images(
                found.name,
                Source(str(found), first=TRAIN_IMAGES, mosaic=False),
                Source(str(found), "val", first=MINI_IMAGES),
            )
        return self._own() or self._drawn()

    def one_person(self, faces: bool = False) -> Images:
        """Small data of one person; with ``faces``, with joints of the face."""
        name = "lspet-people-{}.json.gz" if faces else "lspet-1.tar"
        train, held_back = (self._find(name.format(split)) for split in ("train", "val"))
        images = tuple(str(path) for path in (self._find(f"lspet-{i}.tar") for i in (1, 2)) if path)
        if not train or not held_back or len(images) < 2:
            return self.many_people()
        images = images if faces else images[1:]  # the first has the annotations too
        least = 10 if faces else 1
        return Images(
            train.name,
            Source(str(train), images=images, first=TRAIN_IMAGES, joints=least),
            Source(str(held_back), "val", images, first=MINI_IMAGES, joints=least),
        )

    def _find(self, name: str) -> Path | None:
        """A file of the data folder, or of the folder ``data`` in it."""
        places = (self.data / name, self.data / "data" / name)
        return next((path.resolve() for path in places if path.is_file()), None)

    def _own(self) -> Images | None:
        """The folder itself, where it is a data set in COCO-keypoint form."""
        if not all((self.data / f"{split}.json").is_file() for split in ("train", "val")):
            return None
        open_dataset(self.data, "val")  # says what is wrong with it
        folder = str(self.data.resolve())
        return Images(
            self.data.name, Source(folder, first=TRAIN_IMAGES, mosaic=False), Source(folder, "val", first=MINI_IMAGES)
        )

    def _drawn(self) -> Images:
        """Stick figures, drawn once."""
        folder = (self.out / "generated").resolve()
        write_sticks(folder)
        return Images("generated stick figures", Source(str(folder), mosaic=False), Source(str(folder), "val"))


def recipe_file(name: str) -> Path:
    """A recipe of the repository by its name without suffix.

    Raises:
        MissingFileError: the package is not run from a copy of the repository, or has no such recipe.
    """
    places = [f"recipes/{name}.toml", f"research/*/recipes/{name}.toml"]
    found = [path for root in (ROOT, Path()) for place in places for path in root.glob(place)]
    if not found:
        raise MissingFileError(
            f"{name}.toml: no such recipe here or in {ROOT}; call it in the folder of a copy of the repository"
        )
    return found[0]


@dataclass(frozen=True)
class Result:
    """What an item measured.

    Attributes:
        rows: of the table; the columns are the keys of all rows. Figures of the paper are in columns that begin with
            ``paper``.
        draw: writes the image to the path that it gets.
        conditions: how the run differs from the paper's, a sentence each.
    """

    rows: Sequence[Row]
    draw: Callable[[Path], None]
    conditions: Sequence[str] = field(default_factory=tuple)


def write_result(result: Result, folder: Path, name: str, title: str, mini: bool) -> list[Path]:
    """Write table, page and image of an item.

    Args:
        result: what was measured.
        folder: for the three files; made where it is missing.
        name: of the files, without suffix.
        title: of the page.
        mini: whether the figures say little.

    Returns:
        the files: ``.csv``, ``.md`` and ``.png``.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be made ({error.strerror}); name another --out") from error
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
    lines += ["", f"![{title}]({image})", "", "How far this run is from the paper's conditions:", ""]
    lines += [f"- {sentence}" for sentence in result.conditions]
    return "\n".join([*lines, f"- {cpu()}, {about()}", ""])
