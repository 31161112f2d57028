"""What label numbers mean: from a study, and from files in five formats."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medrobust.data.scans.labels import Label, label_map, map_of_file, map_of_study, read_label_file
from medrobust.errors import DataError, StudyError

FILES = {
    "dseg.tsv": (
        "index\tname\tabbreviation\tcolor\n0\tair\tA\t#000000\n17\thippo\tH\t#ff0010\n"
        "53\thippo\tH\t#00ff10\n2\twhite\tW\tn/a\n"
    ),
    "decathlon.json": json.dumps({"labels": {"0": "air", "17": "hippo", "2": "white"}}),
    "nnunet.json": json.dumps({"labels": {"background": 0, "hippo": 17, "white": 2}}),
    "map.xml": (
        "<LabelList><Label><Name>hippo</Name><Number>17</Number><RGBColor>255 0 16</RGBColor></Label>"
        "<Label><Name>white</Name><Number>2</Number></Label></LabelList>"
    ),
    "info.csv": "Label Number,Label Name,Class\n17,hippo,grey\n2,white,white\n",
    "FreeSurferColorLUT.txt": (
        "#$Id: FreeSurferColorLUT.txt\n\n#No. Label Name: R G B A\n0 Unknown 0 0 0 0\n"
        "17  hippo  255 0 16 0\n2  white 1 2 3 0\n"
    ),
    "itksnap.txt": (
        '# ITK-SnAP Label Description File\n    0     0    0    0        0  0  0    "Clear Label"\n'
        '   17   255    0   16        1  1  1    "hippo"\n    2     1    2    3      0.5  1  0    "white"\n'
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_every_format_names_the_same_classes(tmp_path, name):
    (tmp_path / name).write_text(FILES[name], encoding="utf-8-sig")
    read = read_label_file(tmp_path / name)
    assert read.names == ("background", "hippo", "white")
    assert read.numbers[0] == (0,)
    assert read.numbers[1] in ((17,), (17, 53))
    assert read.numbers[2] == (2,)
    if name in ("dseg.tsv", "map.xml", "FreeSurferColorLUT.txt", "itksnap.txt"):
        assert read.colours[1] == (255, 0, 16)


def test_several_numbers_are_one_class_and_background_is_left_out():
    own = map_of_study({"liver": [1, 2], "tumour": 3, "background": [7, 65535]})
    labels = np.array([[[0, 1, 2, 3, 7, 65535]]], np.uint16)
    assert own(labels, Path("f")).ravel().tolist() == [0, 1, 1, 2, 0, 0]
    assert own.unknown(np.array([3, 9, 4], np.uint16)) == (4, 9)


def test_an_unknown_number_is_refused_with_the_file():
    own = map_of_study({"liver": 1})
    with pytest.raises(
        DataError, match=r"scan\.nii holds the label 5, 300, which is not among 'liver'\. Name it"
    ):
        own(np.array([[[0, 1, 300, 5]]], np.uint16), Path("scan.nii"))


@given(st.dictionaries(st.sampled_from("abcdef"), st.sets(st.integers(1, 400), min_size=1), min_size=1))
def test_numbers_go_to_their_class_and_all_others_are_unknown(labels):
    given_ = {name: sorted(numbers) for name, numbers in labels.items()}
    flat = [number for numbers in given_.values() for number in numbers]
    if len(flat) != len(set(flat)):
        with pytest.raises(StudyError, match=r"data\.labels: the number \d+ means both"):
            map_of_study(given_)
        return
    own = map_of_study(given_)
    for index, numbers in enumerate(given_.values(), start=1):
        assert (own(np.array(numbers, np.uint16).reshape(1, 1, -1), Path("f")) == index).all()
    assert own.unknown(np.arange(401, dtype=np.uint16)) == tuple(sorted(set(range(1, 401)) - set(flat)))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({}, "names no class"),
        ({"a": 1, "b": [2, 1]}, "the number 1 means both 'a' and 'b'"),
        ({"a": 0}, "the number 0 means both 'background' and 'a'"),
        ({"a": 70000}, "'a' has the number 70000; labels are from 0 to 65535"),
        ({"a": []}, "the class 'a' needs a name and a number"),
        ({" ": 3}, "needs a name and a number"),
        ({f"c{n}": n for n in range(1, 300)}, "names 299 classes; at most 253"),
    ],
)
def test_a_mapping_that_contradicts_itself_is_refused(labels, message):
    with pytest.raises(StudyError, match=f"data.labels: .*{message}"):
        map_of_study(labels)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.tsv", "index\tlabel\n1\tx\n", "column 'name' is missing"),
        ("a.tsv", "index\tname\n1.5\tx\n", r"'1\.5' is not a label number"),
        ("a.tsv", "index\tname\n1\tx\n1\ty\n", "the number 1 means both 'x' and 'y'"),
        ("a.tsv", "", "'index', 'name' is missing"),
        ("a.csv", "Label Number\n3\n", "column 'Label Name' is missing"),
        ("a.json", "{", "cannot be read as JSON"),
        ("a.json", "[]", "`labels` must name the classes"),
        ("a.xml", "<a", "cannot be read as XML"),
        ("a.xml", '<!DOCTYPE l [<!ENTITY a "aaaa">]><l>&a;</l>', "declares entities"),
        ("a.xml", "<a/>", "names no class"),
        ("a.txt", "1 liver\n", "line 1: is neither FreeSurfer's"),
        ("a.nii", "", r"label files end in \.tsv, \.json, \.xml, \.csv, \.txt"),
    ],
)
def test_a_wrong_file_is_refused_by_name(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=rf"a\.{name[2:]}.*{message}"):
        read_label_file(tmp_path / name)


def read_or_refuse(path):
    """Anything else than an error that names the file fails the test."""
    try:
        read_label_file(path)
    except DataError as error:
        if path.name not in str(error):
            raise AssertionError(f"does not name the file: {error}") from error


@given(content=st.binary(max_size=300), suffix=st.sampled_from((".tsv", ".json", ".xml", ".csv", ".txt")))
def test_no_content_gives_anything_but_a_map_or_an_error_that_names_the_file(
    tmp_path_factory, content, suffix
):
    path = tmp_path_factory.mktemp("labels") / f"fuzz{suffix}"
    path.write_bytes(content)
    read_or_refuse(path)


@given(
    place=st.floats(0, 1, exclude_max=True),
    byte=st.integers(0, 255),
    name=st.sampled_from(sorted(FILES)),
)
def test_a_changed_byte_is_read_or_refused(tmp_path_factory, place, byte, name):
    content = bytearray(FILES[name].encode())
    content[int(place * len(content))] = byte
    path = tmp_path_factory.mktemp("labels") / name
    path.write_bytes(content)
    read_or_refuse(path)


def test_a_name_without_file_is_a_file_s(tmp_path):
    (tmp_path / "own.csv").write_text(FILES["info.csv"])
    assert label_map("own.csv", tmp_path).names == ("background", "hippo", "white")
    assert label_map({"a": 1}, tmp_path).names == ("background", "a")


def test_label_zero_is_background_whatever_it_is_called():
    assert map_of_file([Label(0, "Clear Label"), Label(1, "a")], Path("f")).names == ("background", "a")
