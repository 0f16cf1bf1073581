"""Each case in a fresh interpreter: what is tested is an import."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(code: str, *extra: Path) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join(str(folder) for folder in (*extra, ROOT))
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False
    )


def fake_torchvision(folder: Path, body: str) -> Path:
    (folder / "torchvision").mkdir()
    (folder / "torchvision" / "__init__.py").write_text(body)
    return folder


def test_torchvision_and_timm_import_whatever_the_build():
    done = run(
        "from featurizers.vision import import_torchvision, prepare_timm\n"
        "assert import_torchvision() is import_torchvision()\n"
        "prepare_timm()\n"
        "import timm, torch\n"
        "model = timm.create_model('vit_tiny_patch16_224', in_chans=5, img_size=32, num_classes=0)\n"
        "assert model(torch.zeros(1, 5, 32, 32)).shape == (1, 192)\n"
    )
    assert done.returncode == 0, done.stderr


def test_missing_operators_are_declared_once_and_the_import_repeated(tmp_path):
    body = (
        "import torch\n"
        "@torch.library.register_fake('torchvision::nms')\n"
        "def nms(dets, scores, iou_threshold): return dets\n"
        "@torch.library.register_fake('torchvision::qnms')\n"
        "def qnms(dets, scores, iou_threshold): return dets\n"
    )
    done = run(
        "from featurizers import vision\n"
        "module = vision.import_torchvision()\n"
        "import sys; assert sys.modules['torchvision'] is module and hasattr(module, 'qnms')\n"
        "assert len(vision._declared) == 1\n",
        fake_torchvision(tmp_path, body),
    )
    assert done.returncode == 0, done.stderr


def test_a_torchvision_that_imports_is_not_touched(tmp_path):
    done = run(
        "from featurizers import vision\n"
        "assert vision.import_torchvision().mark == 7\n"
        "import sys; assert vision._declared == [] and 'torch' not in sys.modules\n",
        fake_torchvision(tmp_path, "mark = 7\n"),
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("error", ["RuntimeError('driver too old')", "ImportError('no libpng')"])
def test_another_failure_is_passed_on(tmp_path, error):
    done = run(
        "from featurizers.vision import import_torchvision\nimport_torchvision()\n",
        fake_torchvision(tmp_path, f"raise {error}\n"),
    )
    assert done.returncode == 1
    assert error.partition("(")[0] in done.stderr.splitlines()[-1]
