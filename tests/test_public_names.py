"""What ``import lithepose`` offers, and the errors that it raises."""

from __future__ import annotations

import subprocess
import sys

import pytest
from conftest import SAMPLES

import lithepose
from lithepose.cli import main


def test_every_public_name_can_be_had():
    for name in lithepose.__all__:
        assert getattr(lithepose, name) is not None, name
    assert set(lithepose.__all__) <= set(dir(lithepose))


def test_functions_are_not_hidden_by_packages_of_the_same_name():
    import lithepose.evaluation.evaluate
    import lithepose.exporters.onnx
    import lithepose.training.trainer

    assert all(callable(getattr(lithepose, name)) for name in ("evaluate", "export", "train", "draw", "load"))


def test_importing_loads_neither_torch_nor_opencv():
    code = "import sys, lithepose, lithepose.errors; print({'torch', 'cv2', 'onnxruntime'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=100)
    assert done.stdout.strip() == "set()"


def test_reading_a_recipe_loads_no_torch(tmp_path):
    (tmp_path / "mine.toml").write_text('network = "lithe"\n[[data]]\ndata = "x"\n')
    code = (
        "import sys; from lithepose.training.config import Recipe\n"
        "Recipe.read(sys.argv[1]); print('torch' in sys.modules)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "mine.toml")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=100)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize(
    ("name", "builtin"),
    [
        ("ImageError", ValueError),
        ("VideoError", ValueError),
        ("ModelError", ValueError),
        ("DatasetError", ValueError),
        ("ConfigError", ValueError),
        ("TrainingError", FloatingPointError),
        ("OutputError", OSError),
        ("MissingFileError", FileNotFoundError),
        ("MissingExtraError", ImportError),
    ],
)
def test_errors_have_one_base_and_are_the_built_in_ones_too(name, builtin):
    kind = getattr(lithepose, name)
    assert issubclass(kind, lithepose.LitheposeError)
    assert issubclass(kind, builtin)


def test_user_mistakes_are_a_line_and_with_debug_a_traceback(capsys):
    assert main(["predict", "gone.jpg"]) == 2
    assert "gone.jpg: no such file" in capsys.readouterr().err
    with pytest.raises(lithepose.MissingFileError, match=r"gone\.jpg"):
        main(["predict", "gone.jpg", "--debug"])


def test_faults_of_this_package_are_not_shown_as_user_mistakes(monkeypatch):
    def broken(*_: object) -> None:
        raise ValueError("a fault")

    monkeypatch.setattr("lithepose.inference.top_down.TopDown.on_boxes", broken)
    with pytest.raises(ValueError, match="a fault"):
        main(["predict", str(SAMPLES / "astronaut.jpg"), "--json", "-"])
