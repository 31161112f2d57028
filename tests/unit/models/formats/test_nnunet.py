"""Results folders of nnU-Net, made by hand; tests/whole/test_foreign_networks.py trains a real one."""

import json

import numpy as np
import pytest
import torch

from made_formats import assert_same, images, network_of
from medrobust.core import Task
from medrobust.errors import ModelError
from medrobust.models import build
from medrobust.models.formats import open_format
from medrobust.models.spec import model_spec
from medrobust.models.windows import SlidingWindow, stitched

unets = pytest.importorskip("dynamic_network_architectures.architectures.unet")
LABELS = {"background": 0, "a": 1, "b": 2, "c": 3}


def _architecture(space: int) -> dict:
    return {
        "n_stages": 2, "features_per_stage": [4, 8], "conv_op": f"torch.nn.modules.conv.Conv{space}d",
        "kernel_sizes": [[3] * space] * 2, "strides": [[1] * space, [2] * space], "n_conv_per_stage": [1, 1],
        "n_conv_per_stage_decoder": [1], "conv_bias": True,
        "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{space}d",
        "norm_op_kwargs": {"eps": 1e-5, "affine": True}, "dropout_op": None, "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU", "nonlin_kwargs": {"inplace": True},
    }  # fmt: skip


def _body(space: int, outputs: int, seed: int) -> torch.nn.Module:
    said = _architecture(space)
    for key in ("conv_op", "norm_op", "nonlin"):
        said[key] = getattr(torch.nn, said[key].split(".")[-1])
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return unets.PlainConvUNet(1, num_classes=outputs, deep_supervision=True, **said).eval()


def _results(
    folder, space=2, *, scheme="ZScoreNormalization", masked=False, labels=LABELS, seeds=(0,), **data
):
    """A folder of results, and the networks in it, which return their finest level first."""
    patch, order = ([16, 16], [0, 1]) if space == 2 else ([8, 12, 16], [1, 0, 2])
    configuration = {
        "patch_size": patch, "spacing": [1.0] * space, "normalization_schemes": [scheme],
        "use_mask_for_norm": [masked],
        "architecture": {
            "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
            "arch_kwargs": _architecture(space),
            "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
        },
    }  # fmt: skip
    plans = {
        "configurations": {"base": configuration, "used": {"inherits_from": "base"}},
        "transpose_forward": order, "image_reader_writer": "SimpleITKIO",
        "foreground_intensity_properties_per_channel": {
            "0": {"mean": 40.0, "std": 20.0, "percentile_00_5": -10.0, "percentile_99_5": 90.0}
        },
    }  # fmt: skip
    (folder / "plans.json").write_text(json.dumps(plans))
    (folder / "dataset.json").write_text(json.dumps({"channel_names": {"0": "T1"}, "labels": labels, **data}))
    outputs = len(labels) - ("regions_class_order" in data)
    bodies = [_body(space, outputs, seed) for seed in seeds]
    for fold, body in enumerate(bodies):
        (folder / f"fold_{fold}").mkdir()
        content = {
            "network_weights": body.state_dict(), "init_args": {"configuration": "used"},
            "logging": {"mean_fg_dice": [np.float64(0.5)]}, "_best_ema": np.float32(1),
        }  # fmt: skip
        torch.save(content, folder / f"fold_{fold}" / "checkpoint_final.pth")
    return bodies


def test_the_mean_of_the_folds_in_windows_of_z_scored_images(tmp_path):
    bodies = _results(tmp_path, seeds=(0, 1))
    network = network_of(tmp_path, Task.SEGMENTATION, channels=1, shape=(24, 32))

    def mean(part):
        return (bodies[0](part)[0] + bodies[1](part)[0]) / 2

    def plain(shown):
        scored = (shown - shown.mean((2, 3), keepdim=True)) / shown.std((2, 3), correction=0, keepdim=True)
        return stitched(mean, scored, SlidingWindow(size=(16, 16), like="nnunet"))

    assert_same(network, plain, images(2, 1, (24, 32)))
    assert any("folds 0, 1" in sentence for sentence in network.assumed)
    assert any("Each slice is normalised by its own mean" in sentence for sentence in network.assumed)
    one = network_of(
        tmp_path,
        Task.SEGMENTATION,
        channels=1,
        shape=(24, 32),
        folds=[1],
        input={"normalise": None, "mean": 0},
    )
    torch.testing.assert_close(one(images(1, 1, (16, 16))), bodies[1](images(1, 1, (16, 16)))[0])


def test_axes_of_volumes_are_turned_to_those_of_the_network(tmp_path):
    (body,) = _results(tmp_path, 3, masked=True)
    network = network_of(tmp_path, Task.SEGMENTATION, channels=1, shape=(12, 8, 16))
    # Plans take y first; 8 of y, 12 of z and 16 of x are a window.
    assert network.input.window.size == (12, 8, 16)
    assert network.input.normalise == "foreground"
    shown = images(1, 1, (12, 8, 16))
    expected = body(network.prepared(shown).transpose(2, 3))[0].transpose(2, 3)
    torch.testing.assert_close(network(shown), expected)


def test_volumes_are_turned_to_how_the_training_files_are_stored(tmp_path):
    (body,) = _results(tmp_path, 3, masked=True)
    network = network_of(tmp_path, Task.SEGMENTATION, channels=1, shape=(12, 8, 16), stored="RAS")
    shown = images(1, 1, (12, 8, 16))
    turned = network.prepared(shown).flip(3, 4).transpose(2, 3)
    torch.testing.assert_close(network(shown), body(turned)[0].transpose(2, 3).flip(3, 4))
    with pytest.raises(ModelError, match=r"stored: three letters such as RAS .*; got 'RAL'"):
        network_of(tmp_path, Task.SEGMENTATION, channels=1, shape=(12, 8, 16), stored="RAL")


def test_hounsfield_units_are_clipped_and_normalised(tmp_path):
    (body,) = _results(tmp_path, scheme="CTNormalization")
    network = network_of(tmp_path, Task.SEGMENTATION, channels=1, input={"scale": [-100, 200]})
    shown = images(1, 1)
    units = (-100 + 300 * shown).clamp(-10, 90)
    torch.testing.assert_close(network(shown), body((units - 40) / 20)[0], rtol=1e-4, atol=1e-5)
    assert any("input.scale" in sentence for sentence in network.assumed)


REGIONS = {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": 3}
NESTED = {"whole": (1, 2, 3), "core": (2, 3), "enhancing": (3,)}


def _of_regions(folder, regions, names=("background", "rim", "core", "enhancing")):
    spec = model_spec({"name": "mine", "load": str(folder)}, Task.SEGMENTATION)
    return build(spec, classes=4, channels=1, shape=(16, 16), names=names, regions=regions)


def test_a_network_of_regions_gives_the_classes_that_nnunet_paints(tmp_path):
    (body,) = _results(tmp_path, labels=REGIONS, regions_class_order=[1, 2, 3])
    network, shown = _of_regions(tmp_path, NESTED), images(2, 1)
    regions = body(network.prepared(shown))[0] > 0
    painted = torch.zeros(len(shown), *shown.shape[2:], dtype=torch.long)
    for place, number in enumerate((1, 2, 3)):
        painted[regions[:, place]] = number
    consistent = (regions[:, 0] >= regions[:, 1]) & (regions[:, 1] >= regions[:, 2])
    assert 0.1 < consistent.double().mean() < 1
    assert torch.equal(network(shown).argmax(1)[consistent], painted[consistent])
    assert any("Its regions are whole, core, enhancing" in sentence for sentence in network.assumed)
    # Regions are found by their names.
    other = _of_regions(tmp_path, {name: NESTED[name] for name in ("enhancing", "whole", "core")})
    torch.testing.assert_close(other(shown), network(shown))


def test_a_network_of_regions_needs_to_know_their_classes(tmp_path):
    _results(tmp_path, labels=REGIONS, regions_class_order=[1, 2, 3])
    with pytest.raises(
        ModelError, match=r"mine: its outputs are for the regions whole, core, enhancing.*data.regions"
    ):
        _of_regions(tmp_path, None)
    with pytest.raises(ModelError, match=r"mine\.output\.classes: .*'whole'.*Did you mean 'whole tumour'"):
        _of_regions(tmp_path, {"whole tumour": (1, 2, 3), "core": (2, 3), "enhancing": (3,)})
    with pytest.raises(ModelError, match="no output of the network tells 'core' from 'rim'"):
        _of_regions(tmp_path, {**NESTED, "core": (1, 2, 3)})


def test_plans_of_former_versions(tmp_path):
    (body,) = _results(tmp_path)
    plans = json.loads((tmp_path / "plans.json").read_text())
    base = plans["configurations"]["base"]
    del base["architecture"]
    base |= {
        "UNet_class_name": "PlainConvUNet", "UNet_base_num_features": 4, "unet_max_num_features": 8,
        "n_conv_per_stage_encoder": [1, 1], "n_conv_per_stage_decoder": [1],
        "conv_kernel_sizes": [[3, 3], [3, 3]], "pool_op_kernel_sizes": [[1, 1], [2, 2]],
    }  # fmt: skip
    (tmp_path / "plans.json").write_text(json.dumps(plans))
    network = network_of(tmp_path, Task.SEGMENTATION, channels=1)
    torch.testing.assert_close(network(images(1, 1)), body(network.prepared(images(1, 1)))[0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"previous_stage": "3d_lowres"},
            "its configuration takes the segmentation of '3d_lowres' besides the image",
        ),
        ({"normalization_schemes": ["Mine"]}, "its normalisation is 'Mine'"),
        (
            {"network_class_name": "os.system"},
            "its plans name 'os.system', which is no part of dynamic_network",
        ),
        ({"features_per_stage": [4, 16]}, "its weights do not fit the network of its plans"),
    ],
)
def test_what_cannot_be_taken_over_is_refused(change, message, tmp_path):
    _results(tmp_path)
    plans = json.loads((tmp_path / "plans.json").read_text())
    base = plans["configurations"]["base"]
    for block in (base["architecture"], base["architecture"]["arch_kwargs"], base):
        if change.keys() <= block.keys() or block is base:
            block |= change
            break
    (tmp_path / "plans.json").write_text(json.dumps(plans))
    with pytest.raises(ModelError, match=rf"\(nnU-Net\): {message}"):
        open_format(tmp_path, {})


def test_a_fold_that_is_missing(tmp_path):
    _results(tmp_path)
    with pytest.raises(ModelError, match=r"no 'checkpoint_final\.pth' in its folder 'fold_3'\. Folds: 0"):
        open_format(tmp_path, {"folds": (3,)})
    with pytest.raises(ModelError, match="Folds: none"):
        open_format(tmp_path, {"checkpoint": "checkpoint_best.pth"})
