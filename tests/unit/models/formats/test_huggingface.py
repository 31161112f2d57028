"""Folders of Hugging Face, of transformers and of timm."""

import json

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

from made_formats import CLASSES, assert_same, images, network_of
from medrobust.core import Task
from medrobust.errors import ModelError, StudyError

SIDE = 32


@pytest.fixture(scope="module")
def transformers():
    library = pytest.importorskip("transformers")
    library.utils.logging.disable_progress_bar()
    return library


@pytest.fixture
def classifier(transformers, tmp_path):
    config = transformers.ViTConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=SIDE,
        patch_size=8,
        id2label=dict(enumerate("badc")),
        label2id={name: n for n, name in enumerate("badc")},
    )
    with torch.random.fork_rng():
        body = transformers.ViTForImageClassification(config).eval()
    body.save_pretrained(tmp_path)
    return body


def _processor(folder, **said):
    (folder / "preprocessor_config.json").write_text(
        json.dumps({"do_resize": True, "do_rescale": True, **said})
    )


def test_it_is_the_network_with_its_preprocessing_and_classes(classifier, tmp_path):
    mean, std = [0.4, 0.5, 0.6], [0.2, 0.25, 0.3]
    _processor(
        tmp_path, do_normalize=True, image_mean=mean, image_std=std, size={"height": SIDE, "width": SIDE}
    )
    network = network_of(tmp_path, shape=(SIDE, SIDE))

    def plain(shown):
        normalised = (shown - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
        return classifier(normalised).logits[:, [1, 0, 3, 2]]  # its classes are b, a, d, c

    assert_same(network, plain, images(shape=(SIDE, SIDE)))
    assert network(images(shape=(48, 48))).shape == (3, CLASSES)
    assert any("mean, std" in sentence for sentence in network.assumed)


@pytest.mark.parametrize(
    ("said", "scale"),
    [({"do_rescale": False}, 255), ({"rescale_factor": 1 / 127.5}, 2), ({"rescale_factor": 1 / 255}, 1)],
)
def test_bytes_are_rescaled_as_the_processor_says(classifier, said, scale, tmp_path):
    _processor(tmp_path, do_normalize=True, image_mean=[1, 1, 1], image_std=[1, 1, 1], **said)
    network = network_of(tmp_path, shape=(SIDE, SIDE))
    shown = images(shape=(SIDE, SIDE))
    torch.testing.assert_close(network.prepared(shown), scale * shown - 1, rtol=1e-5, atol=1e-4)


def test_the_study_goes_first(classifier, tmp_path):
    _processor(tmp_path, do_normalize=True, image_mean=[1, 1, 1], image_std=[1, 1, 1])
    network = network_of(
        tmp_path, shape=(SIDE, SIDE), input={"normalise": "volume"}, output={"classes": list("abcd")}
    )
    assert network.input.mean is None
    shown = images(shape=(SIDE, SIDE))
    logits = classifier(network.prepared(shown)).logits
    torch.testing.assert_close(network(shown), logits)


def test_other_names_of_classes_are_taken_in_their_order(classifier, tmp_path):
    config = json.loads((tmp_path / "config.json").read_text())
    config["id2label"] = {str(n): f"LABEL_{n}" for n in range(CLASSES)}
    (tmp_path / "config.json").write_text(json.dumps(config))
    network = network_of(tmp_path, shape=(SIDE, SIDE))
    assert any(
        "LABEL_0, LABEL_1, LABEL_2, LABEL_3; they are taken for a, b, c, d" in each
        for each in network.assumed
    )
    torch.testing.assert_close(
        network(images(shape=(SIDE, SIDE))), classifier(images(shape=(SIDE, SIDE))).logits
    )


def test_segmentation(transformers, tmp_path):
    config = transformers.SegformerConfig(
        hidden_sizes=[8, 8, 8, 8],
        depths=[1, 1, 1, 1],
        num_attention_heads=[1, 1, 1, 1],
        decoder_hidden_size=8,
        num_labels=CLASSES,
    )
    with torch.random.fork_rng():
        body = transformers.SegformerForSemanticSegmentation(config).eval()
    body.save_pretrained(tmp_path)
    network = network_of(tmp_path, Task.SEGMENTATION, shape=(64, 64))
    shown = images(shape=(64, 64))
    torch.testing.assert_close(network.raw(shown), body(shown).logits)
    assert network(shown).shape == (3, CLASSES, 64, 64)


def test_weights_that_are_missing_are_not_random(classifier, tmp_path):
    weights = load_file(tmp_path / "model.safetensors")
    del weights["classifier.weight"]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"\(Hugging Face\): its weights lack classifier\.weight"):
        network_of(tmp_path, shape=(SIDE, SIDE))


def test_networks_for_something_else_are_refused(transformers, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"architectures": ["BertModel"], "model_type": "bert"}))
    with pytest.raises(ModelError, match="its architecture is BertModel, but a study judges"):
        network_of(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ModelError, match="cannot be read as Hugging Face: JSONDecodeError"):
        network_of(tmp_path)


def test_a_folder_of_timm(tmp_path):
    with torch.random.fork_rng():
        body = timm.create_model("resnet18", num_classes=CLASSES).eval()
    save_file(body.state_dict(), tmp_path / "model.safetensors")
    config = {"architecture": "resnet18", "num_classes": CLASSES, "pretrained_cfg": body.pretrained_cfg}
    (tmp_path / "config.json").write_text(json.dumps(config))
    network = network_of(tmp_path, shape=(SIDE, SIDE))
    mean, std = (torch.tensor(body.pretrained_cfg[key]).view(3, 1, 1) for key in ("mean", "std"))
    shown = images(shape=(SIDE, SIDE))
    torch.testing.assert_close(network(shown), body((shown - mean) / std), rtol=1e-4, atol=1e-5)


def test_a_folder_of_nothing(tmp_path):
    with pytest.raises(StudyError, match=r"holds no network that is known, which would have .*config\.json"):
        network_of(tmp_path)
