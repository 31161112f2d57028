"""Pictures in npz archives: MedMNIST's layout, and archives that are damaged or mean harm."""

import io
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import made_photos
from damage import damaged, only_errors_that_name
from medrobust.core import Part
from medrobust.data import open_dataset
from medrobust.data.adapters.medmnist import list_medmnist
from medrobust.data.listing import Photos
from medrobust.data.photographs.arrays import NPZ_ARRAYS, array_forms, read_array
from medrobust.data.photographs.pictures import Picture, framed_volume, to_bands
from medrobust.errors import DataError, StudyError


def archive(path: Path, **arrays: np.ndarray) -> Path:
    np.savez_compressed(path, **arrays)
    return path


def small(path: Path, images: tuple[int, ...] = (28, 28), labels: np.ndarray | None = None, **others) -> Path:
    """An archive of six pictures per part."""
    arrays = {}
    for part in ("train", "val", "test"):
        arrays[f"{part}_images"] = np.zeros((6, *images), np.uint8)
        arrays[f"{part}_labels"] = (np.arange(6)[:, None] % 2).astype(np.uint8) if labels is None else labels
    return archive(path, **{**arrays, **others})


def volume_of(values: np.ndarray) -> Picture:
    return Picture(tuple(to_bands(plane)[0] for plane in values), 8, is_volume=True)


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return made_photos.medmnist(tmp_path_factory.mktemp("medmnist"))


class TestMedMNIST:
    def test_counts_classes_and_labels(self, root):
        listing = list_medmnist(root, file="dermamnist_64.npz")
        assert isinstance(listing, Photos)
        assert listing.classes == ("akiec", "bcc", "bkl", "df", "mel", "nv", "vasc")
        assert listing.unit == "image"
        assert len(listing.items) == 56
        assert (listing.items[0].case_id, listing.items[0].label) == ("test-000000", 0)
        assert (listing.items[-1].case_id, listing.items[-1].label) == ("val-000013", 6)
        assert "none: the archive names no patients" in listing.facts["grouping"]
        parts = list(listing.official.values())
        assert [parts.count(part) for part in (Part.TRAIN, Part.VALIDATION, Part.TEST)] == [28, 14, 14]

    def test_pixels_are_those_of_the_archive(self, root):
        for file, size, channels in (("dermamnist_64.npz", 64, 3), ("breastmnist.npz", 28, 1)):
            dataset = open_dataset({"name": "medmnist", "root": root, "file": file, "size": size}, None, None)
            assert (dataset.channels, dataset.bits) == (channels, 8)
            with np.load(root / file) as arrays:
                expected = arrays["train_images"][5].reshape(size, size, channels).transpose(2, 0, 1)
            case = next(case for case in dataset.cases if case.case_id == "train-000005")
            np.testing.assert_array_equal(dataset.read(case).image, expected.astype(np.float32) / 255)

    def test_volumes(self, root):
        listing = list_medmnist(root, file="organmnist3d.npz")
        assert (listing.classes[0], listing.classes[-1], len(listing.items)) == ("liver", "pancreas", 56)
        assert NPZ_ARRAYS.header(listing.items[0].path, listing.items[0].entry) == ((28, 28), 1, 8, 28)
        block = {"name": "medmnist", "root": root, "file": "organmnist3d.npz", "size": 28}
        dataset = open_dataset(block, None, None)
        assert (dataset.channels, dataset.shape) == (1, (28, 28, 28))
        assert dataset.facts["geometry"].startswith("whole volume, resized to 28 x 28 x 28 voxels")
        case = dataset.cases[20]
        with np.load(root / "organmnist3d.npz") as arrays:
            expected = arrays["train_images"][6].astype(np.float32) / 255
        assert case.case_id == "train-000006"
        np.testing.assert_array_equal(dataset.read(case).image, expected[None])

    def test_volumes_are_resized_along_all_axes_alike(self):
        values = np.random.default_rng(0).integers(0, 256, (20, 20, 20), dtype=np.uint8)
        resized = [
            framed_volume(volume_of(np.moveaxis(values, axis, 0)), 16)[0].astype(int) for axis in range(3)
        ]
        for axis in (1, 2):
            difference = np.abs(np.moveaxis(resized[axis], 0, axis) - resized[0])
            assert difference.mean() < 0.6  # rounded between the axes, and clipped to 0 and 255 there
        assert (framed_volume(volume_of(np.full((20, 20, 20), 77, np.uint8)), 16) == 77).all()

    def test_what_volumes_cannot_be(self, root):
        block = {"name": "medmnist", "root": root, "file": "organmnist3d.npz"}
        with pytest.raises(StudyError, match=r"data\.colour: volumes are in grey; got 'rgb'"):
            open_dataset({**block, "colour": "rgb"}, None, None)
        with pytest.raises(StudyError, match=r"data\.size: 512 makes volumes of 134,217,728 voxels"):
            open_dataset({**block, "size": 512}, None, None)

    def test_archives_of_others_have_classes_by_number(self, tmp_path):
        small(tmp_path / "mine.npz")
        assert list_medmnist(tmp_path, file="mine.npz").classes == ("0", "1")

    def test_sixteen_bits(self, tmp_path):
        deep = np.arange(6 * 28 * 28, dtype=np.uint16).reshape(6, 28, 28) * 13
        path = small(tmp_path / "mine.npz", test_images=deep)
        picture = NPZ_ARRAYS.picture(path, ("test_images", 2))
        assert picture.bits == 16
        np.testing.assert_array_equal(picture.pixels[0], deep[2])

    values = np.random.default_rng(1).integers(0, 256, (6, 3, 20, 28), dtype=np.uint8)

    @pytest.mark.parametrize("order", ["C", "F"])
    @pytest.mark.parametrize(
        ("axes", "channels", "dtype"),
        [
            ((0, 2, 3), 1, "u1"),
            ((0, 2, 3, 1), 1, "u1"),
            ((0, 1, 2, 3), 1, "u1"),
            ((0, 2, 3, 1), 3, "u1"),
            ((0, 1, 2, 3), 3, "u1"),
            ((0, 1, 2, 3), 3, ">u2"),
            ((0, 2, 3, 1), 1, "<u2"),
            ((0, 2, 3, 1), 1, "?"),
        ],
    )
    def test_wherever_the_channels_stand(self, tmp_path, order, axes, channels, dtype):
        """As Keras, PyTorch and Matlab lay arrays out; black and white are those of the type."""
        stored = self.values[:, :channels].astype(dtype)
        images = (stored[:, 0] if len(axes) == 3 else stored.transpose(axes)).copy(order=order)
        small(tmp_path / "mine.npz", **{f"{part}_images": images for part in ("train", "val", "test")})
        listing = list_medmnist(tmp_path, file="mine.npz")
        photo = next(photo for photo in listing.items if photo.case_id == "train-000004")
        header, picture = (read(photo.path, photo.entry) for read in (NPZ_ARRAYS.header, NPZ_ARRAYS.picture))
        assert header == ((28, 20), channels, 16 if "u2" in dtype else 8, 1)
        np.testing.assert_array_equal(
            picture.pixels, stored[4] * np.uint8(255) if dtype == "?" else stored[4]
        )

    @pytest.mark.parametrize("place", [1, 4])
    def test_volumes_may_have_an_axis_of_one_channel(self, tmp_path, place):
        voxels = np.random.default_rng(1).integers(0, 256, (6, 16, 16, 16), dtype=np.uint8)
        images = np.expand_dims(voxels, place)
        small(tmp_path / "mine.npz", **{f"{part}_images": images for part in ("train", "val", "test")})
        listing = list_medmnist(tmp_path, file="mine.npz")
        picture = NPZ_ARRAYS.picture(*(listing.items[2].path, listing.items[2].entry))
        assert picture.is_volume
        np.testing.assert_array_equal(picture.pixels, voxels[2])

    @pytest.mark.parametrize("dtype", [bool, np.int8, np.uint64, np.float32])
    @pytest.mark.parametrize("form", ["column", "row", "one-hot"])
    def test_labels_in_every_form(self, tmp_path, dtype, form):
        labels = np.array([0, 1, 1, 0, 1, 0])
        shaped = {"column": labels[:, None], "row": labels, "one-hot": np.eye(2)[labels]}[form]
        small(tmp_path / "mine.npz", labels=shaped.astype(dtype))
        listing = list_medmnist(tmp_path, file="mine.npz")
        assert [photo.label for photo in listing.items[:6]] == labels.tolist()

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            (
                {"labels": np.zeros((6, 14), np.uint8)},
                "has 14 labels per image, several findings at once",
            ),
            ({"images": (28, 28, 28, 28)}, r"\(6, 28, 28, 28, 28\) holds neither pictures nor volumes"),
            (
                {"images": (28, 28, 30)},
                r"'train_images' of shape \(6, 28, 28, 30\) holds neither pictures.* nor volumes, which",
            ),
            ({"test_images": np.zeros((6, 28, 28, 28), np.uint8)}, "holds volumes and pictures: "),
            (
                {"labels": np.zeros((5, 1), np.uint8)},
                "must hold whole numbers, one for each of 6 images; got uint8",
            ),
            ({"labels": np.full((6, 1), 0.5)}, "'train_labels' must hold whole numbers"),
            ({"labels": np.full((6, 1), np.nan)}, "'train_labels' must hold whole numbers"),
            ({"labels": np.full(6, "a")}, "must hold whole numbers, one for each of 6 images; got <U1"),
            ({"labels": np.full((6, 1), -1)}, "must hold classes from 0; got -1 to -1"),
            ({"labels": np.full((6, 1), 2**40)}, "must hold classes from 0"),
            (
                {"test_images": np.zeros((6, 28, 28))},
                "'test_images' holds float64, and nothing says what is black",
            ),
            ({"images": (28, 28, 4)}, "holds neither pictures, which have 1 or 3 channels, nor volumes"),
            ({"images": (2, 28, 28)}, "holds neither pictures"),
            ({"images": (0, 28)}, "claims 28 x 0 pixels"),
        ],
    )
    def test_what_is_refused(self, tmp_path, changes, message):
        small(tmp_path / "mine.npz", **changes)
        with pytest.raises(DataError, match=rf"mine\.npz.*{message}"):
            list_medmnist(tmp_path, file="mine.npz")

    def test_a_label_that_the_set_does_not_have(self, tmp_path):
        small(tmp_path / "breastmnist.npz", labels=np.arange(6)[:, None])
        with pytest.raises(DataError, match="holds the label 5, but breastmnist has classes 0 to 1"):
            list_medmnist(tmp_path, file="breastmnist.npz")

    def test_a_class_without_images_is_a_finding(self, tmp_path):
        small(tmp_path / "pneumoniamnist.npz", labels=np.zeros((6, 1), int))
        (finding,) = list_medmnist(tmp_path, file="pneumoniamnist.npz").findings
        assert "no image of class 'pneumonia'" in finding.says

    def test_files_that_are_not_there(self, tmp_path):
        with pytest.raises(DataError, match=r"data\.file: there is no file 'a\.npz'"):
            list_medmnist(tmp_path, file="a.npz")
        with pytest.raises(DataError, match=r"data\.file: the path '\.\./a\.npz' leads out"):
            list_medmnist(tmp_path, file="../a.npz")
        with pytest.raises(StudyError, match=r"data\.file: this key is required"):
            open_dataset({"name": "medmnist", "root": tmp_path}, None, None)
        archive(tmp_path / "a.npz", x=np.zeros(3))
        with pytest.raises(DataError, match=r"a\.npz: must hold train_images and test_images; found x"):
            list_medmnist(tmp_path, file="a.npz")


class TestHostileArchives:
    def test_nothing_is_unpickled(self, tmp_path):
        class Harm:
            def __reduce__(self):
                return Path.touch, (tmp_path / "harm",)

        path = archive(tmp_path / "a.npz", train_images=np.array([Harm()], dtype=object))
        for use in (array_forms, lambda path: read_array(path, "train_images")):
            with pytest.raises(DataError, match=r"a\.npz: the array 'train_images' holds objects"):
                use(path)
        path.write_bytes(pickle.dumps(Harm()))
        with pytest.raises(DataError, match=r"a\.npz: cannot be read as an npz archive"):
            array_forms(path)
        assert not (tmp_path / "harm").exists()

    def test_a_bomb_is_not_unpacked(self, tmp_path):
        path = archive(tmp_path / "a.npz", train_images=np.zeros((100_000, 28, 28), np.uint8))
        assert path.stat().st_size < 10**6
        with pytest.raises(DataError, match=r"unpacks to 78,400,128 bytes, over 200 times"):
            NPZ_ARRAYS.picture(path, ("train_images", 0))

    @pytest.mark.parametrize("shape", ["(9999999999, 28, 28)", "(2, 28, 28)", "(-1, 28, 28)", "(1e3, 2)"])
    def test_a_header_that_lies(self, tmp_path, shape):
        header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}".encode().ljust(117) + b"\n"
        content = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(100)
        path = tmp_path / "a.npz"
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("train_images.npy", content)
        with pytest.raises(DataError, match=r"a\.npz: "):
            NPZ_ARRAYS.picture(path, ("train_images", 0))

    stream = io.BytesIO()
    np.savez_compressed(
        stream,
        train_images=made_photos.pixels(0, (12, 28))[None].repeat(2, 0),
        train_labels=np.zeros((2, 1), np.uint8),
        test_images=made_photos.pixels(1, (12, 28))[None].repeat(2, 0),
        test_labels=np.ones((2, 1), np.uint8),
    )
    content = stream.getvalue()

    @settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(content=damaged(content), number=st.integers(0, 10**9))
    def test_damage_is_a_message_or_goes_beside_the_pixels(self, tmp_path, content, number):
        """Either an error that names the file, or exactly the pixels and labels that were stored."""
        path = tmp_path / f"{number}.npz"
        path.write_bytes(content)
        with only_errors_that_name(path):
            listing = list_medmnist(tmp_path, file=path.name)
            assert [photo.label for photo in listing.items] == [1, 1, 0, 0]
            picture = listing.format.picture(path, listing.items[0].entry)
            np.testing.assert_array_equal(picture.pixels[0], made_photos.pixels(1, (12, 28)))
