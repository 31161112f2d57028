"""MONAI bundles."""

import json
import re
import shutil

import pytest
import torch
import yaml
from monai.data import MetaTensor
from monai.inferers import SlidingWindowInferer
from monai.networks.nets import UNet
from monai.transforms import Orientation
from nibabel.orientations import axcodes2ornt, inv_ornt_aff, ornt_transform

from made_formats import assert_same, images, network_of
from medrobust.core import Task
from medrobust.errors import ModelError
from medrobust.models.formats import content_digest, open_format

NETWORK = {
    "_target_": "UNet", "spatial_dims": "@dimensions", "in_channels": 1, "out_channels": 4,
    "channels": [4, 8], "strides": [2],
}  # fmt: skip


def _bundle(folder, *, transforms=(), suffix="json", dimensions=2, **config):
    with torch.random.fork_rng():
        body = UNet(dimensions, 1, 4, (4, 8), (2,)).eval()
    (folder / "configs").mkdir()
    (folder / "models").mkdir()
    torch.save({"model": body.state_dict()}, folder / "models" / "model.pt")
    content = {
        "device": "$torch.device('cpu')", "dimensions": dimensions, "network_def": NETWORK,
        "network": "$@network_def.to(@device)",
        "preprocessing": {
            "_target_": "Compose",
            "transforms": [{"_target_": "LoadImaged"}, {"_target_": "EnsureChannelFirstd"}, *transforms],
        },
        **config,
    }  # fmt: skip
    written = json.dumps(content) if suffix == "json" else yaml.safe_dump(content)
    (folder / "configs" / f"inference.{suffix}").write_text(written)
    return body


@pytest.mark.parametrize("suffix", ["json", "yaml"])
def test_its_network_in_its_windows_of_normalised_images(suffix, tmp_path):
    inferer = {"_target_": "SlidingWindowInferer", "roi_size": [16, 16], "overlap": 0.5, "mode": "gaussian"}
    body = _bundle(
        tmp_path,
        transforms=[{"_target_": "NormalizeIntensityd", "channel_wise": True}],
        suffix=suffix,
        inferer=inferer,
    )
    network = network_of(tmp_path, Task.SEGMENTATION, channels=1, shape=(24, 32))

    def plain(shown):
        scored = (shown - shown.mean((2, 3), keepdim=True)) / shown.std((2, 3), correction=0, keepdim=True)
        return SlidingWindowInferer((16, 16), overlap=0.5, mode="gaussian")(scored, body)

    assert_same(network, plain, images(2, 1, (24, 32)), 1e-4)


@pytest.mark.parametrize(
    ("transform", "factor", "offset", "sentence"),
    [
        (
            {
                "_target_": "ScaleIntensityRanged",
                "a_min": -57,
                "a_max": 164,
                "b_min": -1,
                "b_max": 1,
                "clip": True,
            },
            2,
            -1,
            "from -57 to 164",
        ),
        ({"_target_": "monai.transforms.ScaleIntensity", "minv": 0, "maxv": 2}, 2, 0, r"to \[0, 2\]"),
        (
            {"_target_": "NormalizeIntensityd", "subtrahend": 0.5, "divisor": 0.25},
            4,
            -2,
            "NormalizeIntensity",
        ),
        (
            {"_target_": "ScaleIntensityRangePercentilesd", "lower": 1, "upper": 99, "b_min": 0, "b_max": 3},
            3,
            0,
            "percentiles 1 and 99",
        ),
        ({"_target_": "Spacingd", "pixdim": [1, 1]}, 1, 0, r"spacing, \[1, 1\] mm"),
        ({"_target_": "CropForegroundd", "keys": "image"}, 1, 0, "CropForeground is not done here"),
        (
            {"_target_": "NormalizeIntensityd", "subtrahend": "$2+2"},
            1,
            0,
            "NormalizeIntensity is not done here",
        ),
    ],
)
def test_preprocessing_is_translated_or_said(transform, factor, offset, sentence, tmp_path):
    body = _bundle(tmp_path, transforms=[transform])
    network = network_of(tmp_path, Task.SEGMENTATION, channels=1)
    torch.testing.assert_close(
        network(images(1, 1)), body(factor * images(1, 1) + offset), rtol=1e-4, atol=1e-5
    )
    assert any(re.search(sentence, each) for each in network.assumed)


def test_the_names_of_its_metadata(tmp_path):
    body = _bundle(tmp_path)
    form = {
        "inputs": {"image": {"num_channels": 1}},
        "outputs": {"pred": {"channel_def": {"0": "d", "1": "c", "2": "b", "3": "a"}}},
    }
    (tmp_path / "configs" / "metadata.json").write_text(json.dumps({"network_data_format": form}))
    network = network_of(tmp_path, Task.SEGMENTATION, channels=1)
    torch.testing.assert_close(network(images(1, 1)), body(images(1, 1)).flip(1))


@pytest.mark.parametrize(("axes", "wanted"), [("SPL", "RAS"), ("RAS", "RAS"), ("SPL", "LAS"), ("SPL", "ASR")])
def test_volumes_are_turned_to_where_it_wants_them(axes, wanted, tmp_path):
    inferer = {
        "_target_": "SlidingWindowInferer",
        "roi_size": [16, 8, 12],
        "overlap": 0.5,
        "mode": "gaussian",
    }
    orientation = {"_target_": "Orientationd", "axcodes": wanted}
    body = _bundle(tmp_path, transforms=[orientation], dimensions=3, inferer=inferer)
    network = network_of(tmp_path, Task.SEGMENTATION, channels=1, shape=(12, 8, 16), axes=axes)
    shown = images(1, 1, (24, 24, 24))  # a whole number of steps, whatever is turned
    affine = inv_ornt_aff(ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(axes)), shown.shape[2:])
    turn = Orientation(axcodes=wanted, labels=None)
    turned = turn(MetaTensor(shown[0], affine=affine))
    with torch.no_grad():
        maps = SlidingWindowInferer((16, 8, 12), overlap=0.5, mode="gaussian")(turned.as_tensor()[None], body)
        expected = turn.inverse(
            MetaTensor(maps[0], meta=turned.meta, applied_operations=turned.applied_operations)
        )
        torch.testing.assert_close(network(shown)[0], expected.as_tensor(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            {"network_def": {**NETWORK, "channels": "$[4, 2 * 4]"}},
            r"its configuration holds the expression '\$\[4, 2 \* 4\]', which is code",
        ),
        (
            {"network_def": {"_target_": "scripts.nets.Mine"}},
            "its network is 'scripts.nets.Mine', which is no part",
        ),
        (
            {"network_def": {"_target_": "torch.nn.Sequential", "_args_": [{"_target_": "os.system"}]}},
            "its network is 'os.system'",
        ),
        ({"inferer": {"_target_": "SliceInferer", "roi_size": [8, 8]}}, "its inferer is SliceInferer"),
    ],
)
def test_code_is_not_run(config, message, tmp_path):
    _bundle(tmp_path, **config)
    with pytest.raises(ModelError, match=rf"\(MONAI bundle\): {message}"):
        open_format(tmp_path, {})


def test_weights_count_and_where_it_lies_does_not(tmp_path):
    (tmp_path / "a").mkdir()
    _bundle(tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    assert content_digest(tmp_path / "a") == content_digest(tmp_path / "b")
    torch.save(UNet(2, 1, 4, (4, 8), (2,)).state_dict(), tmp_path / "b" / "models" / "model.pt")
    assert content_digest(tmp_path / "a") != content_digest(tmp_path / "b")
    (tmp_path / "a" / "models" / "model.pt").unlink()
    with pytest.raises(ModelError, match=r"\(MONAI bundle\): There is no weights file"):
        open_format(tmp_path / "a", {})
