"""TorchScript and torch.export."""

import io
import zipfile

import pytest
import torch

from made_formats import assert_same, classifier, images, network_of, segmenter
from medrobust.core import Task
from medrobust.errors import ModelError
from medrobust.models import check_network
from medrobust.models.formats import open_format

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*torch.jit:FutureWarning", "ignore:.*torch.jit:DeprecationWarning"
)


@pytest.mark.parametrize("save", [torch.jit.script, lambda body: torch.jit.trace(body, images())])
def test_torchscript_is_the_network(save, tmp_path):
    save(classifier()).save(str(tmp_path / "net.ts"))
    network = network_of(tmp_path / "net.ts")
    assert_same(network, classifier(), images())
    check_network(network, "mine", task=Task.CLASSIFICATION, classes=4, images=images())


def test_the_study_says_how_images_go_in(tmp_path):
    torch.jit.script(classifier()).save(str(tmp_path / "net.pt"))
    network = network_of(tmp_path / "net.pt", channels=1, input={"channels": 3, "mean": 0.4, "std": 0.2})
    grey = images(channels=1)
    torch.testing.assert_close(network(grey), classifier()((grey.expand(-1, 3, -1, -1) - 0.4) / 0.2))


@pytest.mark.parametrize("batch", [1, 2, None])
def test_an_exported_program_takes_any_batch(batch, tmp_path):
    dynamic = ({0: torch.export.Dim("n")},) if batch is None else None
    program = torch.export.export(classifier(), (images(batch or 2),), dynamic_shapes=dynamic)
    torch.export.save(program, tmp_path / "net.pt2")
    network = network_of(tmp_path / "net.pt2")
    assert_same(network, classifier(), images(5))
    check_network(network, "mine", task=Task.CLASSIFICATION, classes=4, images=images())
    assert any("16 x 16" in sentence for sentence in network.assumed)


def test_an_exported_program_of_volumes(tmp_path):
    volumes = images(1, 1, (8, 6, 4))
    torch.export.save(torch.export.export(segmenter(space=3), (volumes,)), tmp_path / "net.pt2")
    network = network_of(tmp_path / "net.pt2", Task.SEGMENTATION, channels=1, shape=(8, 6, 4))
    assert_same(network, segmenter(space=3), images(2, 1, (8, 6, 4)))


class _Spy:
    """Leaves a file where it is unpickled."""

    def __init__(self, mark) -> None:
        self.mark = mark

    def __reduce__(self):
        return open, (str(self.mark), "w")


def test_nothing_of_a_program_is_unpickled(tmp_path):
    path, mark = tmp_path / "net.pt2", tmp_path / "ran"
    torch.export.save(torch.export.export(classifier(), (images(2),)), path)
    with zipfile.ZipFile(path) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    spied = io.BytesIO()
    torch.save(_Spy(mark), spied)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in contents.items():
            archive.writestr(name, spied.getvalue() if name.endswith("sample_inputs/model.pt") else content)
    with pytest.raises(
        ModelError, match=r"'net\.pt2' \(torch\.export\): its part 'model\.pt' holds more than tensors"
    ):
        open_format(path, {})
    assert not mark.exists()


def test_further_inputs_of_a_program_are_what_the_study_says(tmp_path):
    class Two(torch.nn.Module):
        def forward(self, shown, meta):
            return shown.mean((2, 3)) * meta[:, :1] + meta[:, 1:]

    torch.export.save(torch.export.export(Two(), (images(2), torch.rand(2, 2))), tmp_path / "net.pt2")
    network = network_of(tmp_path / "net.pt2", input={"further": {"meta": [{"of": "age"}, 1]}})
    told = network.told([{"age": 3}, {"age": 5}, {"age": 7}])  # three, of a program for batches of two
    expected = images().mean((2, 3)) * torch.tensor([[3.0], [5.0], [7.0]]) + 1
    torch.testing.assert_close(told(images()), expected)


def test_a_program_with_several_images_is_refused(tmp_path):
    class Two(torch.nn.Module):
        def forward(self, first, second):
            return first + second

    torch.export.save(torch.export.export(Two(), (images(2), images(2))), tmp_path / "net.pt2")
    with pytest.raises(ModelError, match=r"it takes first .*, second .*, but a case has one image"):
        open_format(tmp_path / "net.pt2", {})
