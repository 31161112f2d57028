"""Each layout of scans on its miniature: what is there, and what is wrong, with the files named."""

import json
import re
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import yaml
from jsonschema import Draft202012Validator

import made_scans
from medrobust.core import Part
from medrobust.data import DATASETS, list_dataset, open_dataset
from medrobust.data.findings import Severity
from medrobust.data.scans.scan_cases import open_scans
from medrobust.data.scans.structures import STRUCTURES
from medrobust.errors import DataError, StudyError
from medrobust.parameters import parameter_model, resolve
from medrobust.study.schema import study_schema


@pytest.fixture
def listed(tmp_path):
    def listed(name, root, **keys):
        return list_dataset({"name": name, "root": root, **keys}, None)

    return listed


def kinds(listing):
    return [(finding.kind, str(finding.severity)) for finding in listing.findings]


def names(listing):
    return [scan.scan_id for scan in listing.items]


def edit_json(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


class TestNiftiPairs:
    @pytest.fixture
    def root(self, tmp_path):
        return made_scans.nifti_pairs(tmp_path / "pairs")

    def test_self_check(self, listed, root):
        listing = listed("nifti_pairs", root)
        assert names(listing) == ["case0", "case1", "case2", "case3"]
        assert listing.classes == ("background", "liver", "tumour")
        assert listing.classes_of.colours == ((0, 128, 255), (1, 128, 255), (2, 128, 255))
        assert (listing.unit, listing.official, listing.findings) == ("scan", None, ())
        assert "every scan counts by itself" in listing.facts["patients"]

    def test_a_study_may_name_the_labels(self, listed, root):
        (root / "labels.tsv").unlink()
        listing = listed("nifti_pairs", root, labels={"organ": [1, 2], "background": [9]})
        assert listing.classes == ("background", "organ")
        assert listing.classes_of.numbers == ((0, 9), (1, 2))
        with pytest.raises(DataError, match=r"labels\.tsv: cannot be read as a table"):
            listed("nifti_pairs", root)

    def test_patterns_find_patient_scan_and_channels(self, listed, tmp_path):
        image, labels = made_scans.belly(0)
        for patient in ("a", "b"):
            for scan in ("1", "2"):
                folder = tmp_path / "own" / patient / f"visit{scan}"
                for name, voxels in (("t1", image), ("flair", image), ("seg", labels)):
                    made_scans.write_volume(folder / f"{patient}_{name}.nii.gz", voxels)
        listing = listed(
            "nifti_pairs",
            tmp_path / "own",
            images=["{patient}/visit{scan}/*_t1.nii.gz", "{patient}/visit{scan}/{patient}_flair.nii.gz"],
            segmentations="**/{patient}/visit{scan}/*_seg.nii.gz",
            labels={"organ": [1, 2]},
        )
        assert names(listing) == ["a_1", "a_2", "b_1", "b_2"]
        assert [scan.patient_id for scan in listing.items] == ["a", "a", "b", "b"]
        assert [path.name for path in listing.items[0].images] == ["a_t1.nii.gz", "a_flair.nii.gz"]
        assert (listing.unit, listing.findings) == ("patient", ())

    def test_a_field_that_stands_twice_is_the_same_both_times(self, listed, root):
        for folder in ("images", "labels"):
            (root / folder / "case1").mkdir()
            for name in ("case1", "case2"):
                shutil.copy(root / folder / f"{name}.nii.gz", root / folder / "case1")
        keys = {"images": "images/{scan}/{scan}.nii.gz", "segmentations": "labels/{scan}/{scan}.nii.gz"}
        assert names(listed("nifti_pairs", root, **keys)) == ["case1"]

    def test_a_regular_expression_finds_the_patient(self, listed, root):
        listing = listed("nifti_pairs", root, patient=r"case(\d)")
        assert [scan.patient_id for scan in listing.items] == ["0", "1", "2", "3"]
        assert listing.unit == "patient"
        assert kinds(listed("nifti_pairs", root, patient=r"case([0-2])")) == [("patient unknown", "error")]
        with pytest.raises(StudyError, match=r"data\.patient: '\(' is not a valid regular expression"):
            listed("nifti_pairs", root, patient="(")

    def test_a_patient_that_is_a_word_for_nobody(self, listed, root):
        for folder in ("images", "labels"):
            (root / folder / "unknown").mkdir()
            for case in (0, 1):
                shutil.move(root / folder / f"case{case}.nii.gz", root / folder / "unknown")
            for case in (2, 3):
                (root / folder / f"p{case}").mkdir()
                shutil.move(root / folder / f"case{case}.nii.gz", root / folder / f"p{case}")
        keys = {"images": "images/{patient}/{scan}.nii.gz", "segmentations": "labels/{patient}/{scan}.nii.gz"}
        listing = listed("nifti_pairs", root, **keys)
        assert [scan.patient_id for scan in listing.items] == ["p2", "p3"]
        assert kinds(listing) == [("patient unknown", "error")] * 2
        assert "(it says 'unknown')" in listing.findings[0].says

    def test_files_without_partner_are_found(self, listed, root):
        (root / "labels/case1.nii.gz").unlink()
        (root / "images/case2.nii.gz").unlink()
        listing = listed("nifti_pairs", root)
        assert names(listing) == ["case0", "case3"]
        assert kinds(listing) == [("labels missing", "warning"), ("image missing", "error")]
        assert listing.findings[0].files == (root / "images/case1.nii.gz",)

    def test_a_scan_that_two_files_match_is_found(self, listed, root):
        shutil.copy(root / "images/case1.nii.gz", root / "images/case1_again.nii.gz")
        listing = listed("nifti_pairs", root, images="images/{scan}*.nii.gz", labels={"organ": [1, 2]})
        assert ("listed twice", "error") in kinds(listing)

    def test_patterns_that_find_nothing_say_what_they_found(self, listed, root):
        with pytest.raises(DataError, match=r"4 images match .*, and 0 label files match 'truth"):
            listed("nifti_pairs", root, segmentations="truth/{scan}.nii.gz")

    @pytest.mark.parametrize(
        ("images", "message"),
        [("images/{subject}.nii", r"got '\{subject\}'"), ("images/*.nii", r"needs \{scan\} or \{patient\}")],
    )
    def test_a_wrong_pattern_is_refused(self, listed, root, images, message):
        with pytest.raises(StudyError, match=rf"data\.images: .*{message}"):
            listed("nifti_pairs", root, images=images)

    def test_a_label_file_outside_of_the_root_is_refused(self, listed, root):
        with pytest.raises(DataError, match="leads out of the data's folder"):
            listed("nifti_pairs", root, labels="../labels.tsv")


class TestBids:
    @pytest.fixture
    def root(self, tmp_path):
        return made_scans.bids(tmp_path / "bids")

    def test_self_check(self, listed, root):
        listing = listed("bids", root)
        assert names(listing) == [
            f"sub-{n}" for n in ("01_ses-1", "01_ses-2", "02_ses-1", "03_ses-1", "04_ses-1")
        ]
        assert [scan.patient_id for scan in listing.items][:3] == ["sub-01", "sub-01", "sub-02"]
        assert listing.items[0].image == root / "sub-01/ses-1/anat/sub-01_ses-1_T1w.nii.gz"
        assert listing.classes == ("background", "liver", "tumour")
        assert (listing.unit, listing.findings) == ("patient", ())

    def test_two_contrasts_are_two_channels(self, root):
        dataset = open_dataset({"name": "bids", "root": root, "images": ["T1w", "T2w"]}, None, None)
        assert dataset.channels == 2
        image = dataset.read(dataset.cases[0]).image
        assert np.corrcoef(image.reshape(2, -1))[0, 1] < 0.9

    def test_labels_in_another_space_go_with_the_pipeline_s_own_image(self, listed, root):
        derived = root / "derivatives/bysegmenter/sub-02/ses-1/anat"
        image, labels = made_scans.belly(5)
        made_scans.write_volume(derived / "sub-02_ses-1_space-MNI_T1w.nii.gz", image)
        made_scans.write_volume(derived / "sub-02_ses-1_space-MNI_desc-organs_dseg.nii.gz", labels)
        listing = listed("bids", root, space="MNI")
        assert [scan.image for scan in listing.items] == [derived / "sub-02_ses-1_space-MNI_T1w.nii.gz"]
        assert ("listed twice", "error") in kinds(listed("bids", root))

    def test_the_nearest_table_names_the_labels(self, listed, root):
        made_scans.table(root / "dseg.tsv", {"wrong": 1})
        assert listed("bids", root).classes == ("background", "liver", "tumour")
        (root / "derivatives/bysegmenter/desc-organs_dseg.tsv").unlink()
        assert listed("bids", root).classes == ("background", "wrong")
        (root / "dseg.tsv").unlink()
        with pytest.raises(DataError, match=r"has no dseg\.tsv that says what its numbers mean"):
            listed("bids", root)
        assert listed("bids", root, labels={"organ": [1, 2]}).classes == ("background", "organ")

    def test_the_table_of_the_most_entities_goes_first(self, listed, root):
        made_scans.table(root / "derivatives/bysegmenter/dseg.tsv", {"wrong": 1})
        made_scans.table(root / "derivatives/bysegmenter/desc-other_dseg.tsv", {"other": 1})
        assert listed("bids", root).classes == ("background", "liver", "tumour")

    def test_the_raw_image_goes_before_the_pipeline_s_own(self, listed, root):
        derived = root / "derivatives/bysegmenter/sub-02/ses-1/anat/sub-02_ses-1_desc-preproc_T1w.nii.gz"
        shutil.copy(root / "sub-02/ses-1/anat/sub-02_ses-1_T1w.nii.gz", derived)
        listing = listed("bids", root)
        assert (len(listing.items), listing.findings) == (5, ())
        assert "derivatives" not in listing.items[2].image.relative_to(root).parts

    def test_labels_of_two_pipelines_have_to_be_chosen(self, listed, root):
        shutil.copytree(root / "derivatives/bysegmenter", root / "derivatives/other")
        with pytest.raises(StudyError, match=r"data\.pipeline: several hold labels, 'bysegmenter', 'other'"):
            listed("bids", root)
        assert len(listed("bids", root, pipeline="other").items) == 5
        with pytest.raises(DataError, match=r"data\.pipeline: .*fastsurfer holds no .*'bysegmenter'"):
            listed("bids", root, pipeline="fastsurfer")

    def test_missing_and_ambiguous_images_are_found(self, listed, root):
        (root / "sub-02/ses-1/anat/sub-02_ses-1_T1w.nii.gz").unlink()
        anat = root / "sub-03/ses-1/anat"
        shutil.copy(anat / "sub-03_ses-1_T1w.nii.gz", anat / "sub-03_ses-1_run-2_T1w.nii.gz")
        listing = listed("bids", root)
        assert kinds(listing) == [("image missing", "error"), ("several images", "error")]
        assert len(listing.items) == 3

    def test_where_no_scan_has_an_image_each_says_why(self, listed, root):
        for path in root.glob("sub-*/ses-*/anat/*_T1w.nii.gz"):
            shutil.copy(path, path.with_name(path.name.replace("_T1w", "_run-2_T1w")))
        listing = listed("bids", root)
        assert kinds(listing) == [("several images", "error")] * 5
        with pytest.raises(DataError, match=r"dseg\.nii\.gz has 2 images .*\(4 more errors"):
            open_dataset({"name": "bids", "root": root}, None, None)

    def test_a_folder_without_labels_is_refused(self, listed, root):
        with pytest.raises(DataError, match=r"holds no \*_dseg\.nii\.gz with desc aseg"):
            listed("bids", root, desc="aseg")
        shutil.rmtree(root / "derivatives")
        with pytest.raises(DataError, match=r"bids holds no \*_dseg"):
            listed("bids", root)

    def test_the_derivative_alone_may_be_the_root(self, listed, root):
        home = root / "derivatives/bysegmenter"
        for path in root.glob("sub-*/ses-*/anat/*_T1w.nii.gz"):
            shutil.copy(path, home / path.relative_to(root))
        assert len(listed("bids", home).items) == 5


class TestDecathlon:
    @pytest.fixture
    def root(self, tmp_path):
        return made_scans.decathlon(tmp_path / "Task01")

    @pytest.fixture
    def nnunet(self, tmp_path):
        return made_scans.nnunet(tmp_path / "Dataset001")

    def test_self_check(self, listed, root):
        listing = listed("decathlon", root)
        assert names(listing) == [f"BRATS_00{case}" for case in range(4)]
        assert listing.classes == ("background", "edema", "non-enhancing tumor", "enhancing tumour")
        assert listing.facts["channels"] == "FLAIR, T1w"
        assert (listing.unit, listing.findings) == ("scan", ())

    def test_both_variants_hold_the_same_images(self, root, nnunet):
        one, other = (
            open_dataset({"name": "decathlon", "root": folder}, None, None) for folder in (root, nnunet)
        )
        assert one.channels == other.channels == 2
        assert one.classes == other.classes
        assert one.cases == other.cases
        for case in one.cases[::5]:
            for a, b in zip(one.read(case), other.read(case), strict=True):
                np.testing.assert_array_equal(a, b)

    def test_labels_may_be_joined(self, listed, root):
        listing = listed("decathlon", root, labels={"tumour": [1, 2, 3]})
        assert listing.classes == ("background", "tumour")

    def test_a_case_whose_file_is_missing_is_found(self, listed, root):
        (root / "labelsTr/BRATS_002.nii.gz").unlink()
        listing = listed("decathlon", root)
        assert (names(listing)[-1], kinds(listing)) == ("BRATS_003", [("wrong case", "error")])
        assert len(listing.items) == 3

    def test_a_path_that_leaves_the_root_is_refused(self, listed, root):
        edit_json(root / "dataset.json", lambda c: c["training"][1].update(image="../../etc/x.nii.gz"))
        with pytest.raises(
            DataError, match=r"training case 1: the path '\.\./\.\./etc/x\.nii\.gz' leads out"
        ):
            open_dataset({"name": "decathlon", "root": root}, None, None)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda c: c.pop("training"), "`training` must list the cases"),
            (lambda c: c.update(training=[{"image": 1}]), "1 cases have no label: '"),
            (lambda c: c.update(labels={}), "`labels` must name the classes"),
            (lambda c: c.update(labels={"0": "background", "1": 2}), "the label '1': 2 is not a number with"),
            (lambda c: c.update(training=[]), "no usable case with image and labels"),
        ],
    )
    def test_a_wrong_description_is_refused(self, listed, root, change, message):
        edit_json(root / "dataset.json", change)
        with pytest.raises(DataError, match=rf"dataset\.json.*{re.escape(message)}"):
            listed("decathlon", root)

    def test_a_folder_without_description_is_refused(self, listed, tmp_path):
        with pytest.raises(DataError, match=r"data\.file: there is no file 'dataset\.json' in"):
            listed("decathlon", tmp_path)

    def test_nnunet_files_that_lack_or_exceed_channels_are_found(self, listed, nnunet):
        images = nnunet / "imagesTr"
        (images / "BRATS_001_0001.nii.gz").unlink()
        shutil.copy(images / "BRATS_002_0001.nii.gz", images / "BRATS_002_0007.nii.gz")
        listing = listed("decathlon", nnunet)
        assert sorted(kinds(listing)) == [("channel missing", "error"), ("strange name", "error")]
        assert names(listing) == ["BRATS_000", "BRATS_002", "BRATS_003"]

    def test_nnunet_may_list_files_that_lie_elsewhere(self, listed, nnunet):
        (nnunet / "imagesTr").rename(nnunet / "elsewhere")
        images = [f"elsewhere/BRATS_000_000{channel}.nii.gz" for channel in (0, 1)]
        cases = {"first": {"images": images, "label": "labelsTr/BRATS_000.nii.gz"}}
        edit_json(nnunet / "dataset.json", lambda c: c.update(dataset=cases))
        assert names(listed("decathlon", nnunet)) == ["first"]
        cases["first"]["images"] = images[:1]
        edit_json(nnunet / "dataset.json", lambda c: c.update(dataset=cases))
        with pytest.raises(DataError, match=r"case 'first': must hold `images`, one for each of 2 channels"):
            listed("decathlon", nnunet)

    def test_nnunet_endings_that_are_not_read_are_refused(self, listed, nnunet):
        edit_json(nnunet / "dataset.json", lambda c: c.update(file_ending=".png"))
        with pytest.raises(DataError, match=r"file_ending is '\.png', but only"):
            listed("decathlon", nnunet)


class TestListsOfCases:
    """nnU-Net's first version, and MONAI's lists."""

    @pytest.fixture
    def root(self, tmp_path):
        return made_scans.decathlon(tmp_path / "data")

    @pytest.fixture
    def monai(self, listed, root):
        def monai(content, **keys):
            (root / "list.json").write_text(json.dumps(content))
            return listed("decathlon", root, file="list.json", **{"labels": {"tumour": [1, 2, 3]}, **keys})

        return monai

    def case(self, number, **keys):
        name = f"BRATS_{number:03d}.nii.gz"
        return {"image": f"imagesTr/{name}", "label": f"labelsTr/{name}", **keys}

    @pytest.fixture
    def first_version(self, tmp_path):
        root = made_scans.nnunet(tmp_path / "Task001")
        of_decathlon = made_scans.decathlon(tmp_path / "Task01") / "dataset.json"
        shutil.copy(of_decathlon, root / "dataset.json")
        return root

    def test_nnunet_lists_images_without_the_numbers_of_their_channels(self, listed, first_version, tmp_path):
        listing = listed("decathlon", first_version)
        assert names(listing) == [f"BRATS_00{case}" for case in range(4)]
        assert [path.name for path in listing.items[1].images] == [f"BRATS_001_000{c}.nii.gz" for c in (0, 1)]
        assert (listing.findings, listing.official) == ((), None)
        one, other = (
            open_dataset({"name": "decathlon", "root": root}, None, None)
            for root in (first_version, tmp_path / "Task01")
        )
        for case in one.cases[::7]:
            for a, b in zip(one.read(case), other.read(case), strict=True):
                np.testing.assert_array_equal(a, b)
        edit_json(first_version / "dataset.json", lambda c: c.pop("modality"))
        assert len(listed("decathlon", first_version).items[0].images) == 2

    @pytest.mark.parametrize("modality", [{"0": "CT"}, {"0": "a", "1": "b", "2": "c"}])
    def test_nnunet_with_other_channels_than_modality_names(self, listed, first_version, modality):
        edit_json(first_version / "dataset.json", lambda c: c.update(modality=modality))
        listing = listed("decathlon", first_version)
        assert kinds(listing) == [("wrong case", "error")] * 4
        assert (
            f"has 2 files from 'BRATS_000_0000.nii.gz' on, and `modality` names {len(modality)}"
            in listing.findings[0].says
        )
        with pytest.raises(DataError, match=r"training case 0: .*BRATS_000\.nii\.gz.*\(3 more errors"):
            open_dataset({"name": "decathlon", "root": first_version}, None, None)

    def test_a_list_with_its_split(self, monai):
        listing = monai(
            {
                "training": [self.case(0), self.case(1)],
                "validation": [self.case(2)],
                "testing": [self.case(3)],
            }
        )
        assert names(listing) == [f"BRATS_00{case}" for case in range(4)]
        assert list(listing.official.values()) == [Part.TRAIN, Part.TRAIN, Part.VALIDATION, Part.TEST]
        assert listing.findings == ()
        without = monai(
            {"training": [self.case(0)], "validation": [self.case(1)], "test": ["imagesTs/x.nii.gz"]}
        )
        assert (without.official, without.findings) == (None, ())

    def test_folds_are_said_not_to_be_read(self, monai):
        assert kinds(monai({"training": [self.case(n, fold=n % 2) for n in range(4)]})) == [("folds", "note")]

    def test_channels_in_a_list_and_folders_that_tell_cases_apart(self, monai, root):
        for number in range(3):
            (root / f"P{number}").mkdir()
            for name, folder in (("t1", "imagesTr"), ("t2", "imagesTr"), ("seg", "labelsTr")):
                shutil.copy(root / folder / "BRATS_000.nii.gz", root / f"P{number}/{name}.nii.gz")
        cases = [
            {"image": [f"P{n}/t1.nii.gz", f"P{n}/t2.nii.gz"], "label": [f"P{n}/seg.nii.gz"]} for n in range(3)
        ]
        listing = monai({"training": cases[:2], "test": cases[2:]}, patient="^(P[0-9])_")
        assert names(listing) == ["P0_seg", "P1_seg", "P2_seg"]
        assert [path.name for path in listing.items[0].images] == ["t1.nii.gz", "t2.nii.gz"]
        assert listing.official == {"P0": Part.TRAIN, "P1": Part.TRAIN, "P2": Part.TEST}
        mixed = monai({"training": cases[:2], "test": cases[2:]}, patient="^(P)[0-9]_")
        assert kinds(mixed) == [("patient on both sides", "error")]

    def test_cases_that_get_one_name_are_not_mixed_up(self, monai):
        label, pairs = "labelsTr/BRATS_000.nii.gz", ((0, 1), (2, 3))
        images = [[f"imagesTr/BRATS_00{number}.nii.gz" for number in pair] for pair in pairs]
        listing = monai({"training": [{"image": channels, "label": label} for channels in images]})
        assert names(listing) == ["labelsTr_BRATS_000"]
        assert kinds(listing) == [("listed twice", "error")]
        assert "two cases are called 'labelsTr_BRATS_000'" in listing.findings[0].says

    def test_absolute_and_foreign_paths(self, monai, root):
        cases = [
            {
                "image": str(root / "imagesTr" / f"BRATS_00{n}.nii.gz"),
                "label": f"C:\\x\\labelsTr\\BRATS_00{n}.nii.gz",
            }
            for n in range(4)
        ]
        assert names(monai({"training": cases})) == [f"BRATS_00{case}" for case in range(4)]

    def test_cases_that_cannot_be_used(self, monai):
        wrong = [
            self.case(1, label="labelsTr/BRATS_002.nii.gz"),
            self.case(2, label=3),
            self.case(2, image={"t1": "x"}),
            self.case(2, label=None),
            "imagesTr/BRATS_003.nii.gz",
            self.case(9),
            17,
        ]
        listing = monai(
            {"training": [self.case(0), self.case(0), self.case(1), *wrong], "test": [self.case(0)]}
        )
        assert names(listing) == ["BRATS_000", "BRATS_001"]
        said = {
            (kind, weight): sum(k == (kind, weight) for k in kinds(listing))
            for kind, weight in kinds(listing)
        }
        assert said == {
            ("listed twice", "error"): 2,
            ("wrong case", "error"): 4,
            ("labels missing", "warning"): 1,
        }
        assert "2 cases have no label" in next(f.says for f in listing.findings if f.kind == "labels missing")

    def test_a_list_names_no_classes(self, monai):
        with pytest.raises(
            DataError, match=r"list\.json: does not name the classes\. Give them in data\.labels"
        ):
            monai({"training": [self.case(0)]}, labels=None)
        with pytest.raises(DataError, match=r"list\.json: `training` must list the cases"):
            monai({"validation": [self.case(0)]})


class TestFreeSurfer:
    @pytest.fixture
    def root(self, tmp_path):
        return made_scans.freesurfer(tmp_path / "subjects")

    def test_self_check(self, listed, root):
        listing = listed("freesurfer", root)
        assert names(listing) == ["bert0", "bert1", "bert2", "bert3"]
        assert listing.classes == STRUCTURES
        assert (listing.unit, listing.findings) == ("patient", ())
        assert "made by a program" in listing.facts["labels"]

    def test_both_segmentations_hold_the_same_structures(self, root):
        one, other = (
            open_dataset({"name": "freesurfer", "root": root, "segmentation": name}, None, None)
            for name in ("aseg", "aparc+aseg")
        )
        for case in one.cases[::4]:
            np.testing.assert_array_equal(one.read(case).label, other.read(case).label)
        seen = np.unique([one.read(case).label for case in one.cases])
        shown = {"left cerebral white matter", "right cerebral cortex", "left hippocampus"}
        assert {STRUCTURES[index] for index in seen} == {"background", *shown}

    def test_sides_follow_the_affine_of_conformed_volumes(self, root):
        dataset = open_dataset({"name": "freesurfer", "root": root}, None, None)
        labels = np.stack([dataset.read(case).label for case in dataset.cases if case.scan_id == "bert0"])
        right = np.argwhere(labels == STRUCTURES.index("right cerebral cortex"))[:, 2].mean()
        left = np.argwhere(labels == STRUCTURES.index("left cerebral white matter"))[:, 2].mean()
        # Radiological: the patient's right is on the left. In LIA the first axis grows to the patient's left.
        assert right < left

    def test_other_classes_and_patients(self, listed, root):
        listing = listed("freesurfer", root, labels={"hippocampus": [17, 53], "background": [2, 42, 24]})
        assert listing.classes == ("background", "hippocampus")
        listing = listed("freesurfer", root, patient="^bert")
        assert {scan.patient_id for scan in listing.items} == {"bert"}

    def test_an_unfinished_subject_is_found(self, listed, root):
        (root / "bert1/mri/aseg.mgz").unlink()
        listing = listed("freesurfer", root)
        assert kinds(listing) == [("volume missing", "error")]
        assert len(listing.items) == 3
        with pytest.raises(DataError, match=r"none of 4 subjects in .* has mri/T1\.mgz and mri/aseg\.mgz"):
            listed("freesurfer", root, image="T1")


class TestSecondReleaseOfMalc:
    def test_self_check(self, listed, tmp_path):
        listing = listed("malc2012", made_scans.malc2012_second(tmp_path))
        assert names(listing) == ["1000", "1001", "1002", "1003", "1004"]
        assert [listing.official[name] for name in names(listing)] == [Part.TRAIN] * 3 + [Part.TEST] * 2
        assert (listing.classes, listing.findings) == (STRUCTURES, ())
        same = listed("malc2012", tmp_path / "inst/extdata")
        assert same.items == listing.items

    def test_rescans_are_left_out_and_said(self, listed, tmp_path):
        folder = made_scans.malc2012_second(tmp_path) / "inst/extdata"
        for name in ("SS", "glm"):
            shutil.copy(folder / f"1003_{name}.nii.gz", folder / f"1023_{name}.nii.gz")
        listing = listed("malc2012", tmp_path)
        assert kinds(listing) == [("rescan", str(Severity.WARNING))]
        assert "1023" not in names(listing)

    def test_labels_without_a_scan_are_found(self, listed, tmp_path):
        folder = made_scans.malc2012_second(tmp_path) / "inst/extdata"
        (folder / "1002_SS.nii.gz").unlink()
        assert kinds(listed("malc2012", tmp_path)) == [("image missing", "error")]


def documented_blocks():
    text = (Path(__file__).parents[4] / "docs/data/scans.md").read_text(encoding="utf-8")
    blocks = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)]
    return [block["data"] for block in blocks if "data" in block]


@pytest.mark.parametrize("block", documented_blocks(), ids=lambda block: block["root"])
def test_what_the_documentation_shows_may_be_asked_for(block):
    parameters = {key: value for key, value in block.items() if key not in ("name", "root")}
    entry = DATASETS[block["name"]]
    assert resolve(parameter_model(block["name"], *entry.functions), parameters, "data")
    Draft202012Validator(
        study_schema()["properties"]["data"] | {"$defs": study_schema().get("$defs", {})}
    ).validate(block)


def test_every_layout_of_scans_is_documented():
    scans = {name for name, entry in DATASETS.items() if entry.open is open_scans}
    assert {block["name"] for block in documented_blocks()} == scans


def test_voxels_are_read_as_they_lie(tmp_path):
    """End to end, without resampling: what a case shows is what nibabel reads."""
    root = made_scans.nifti_pairs(tmp_path)
    block = {"name": "nifti_pairs", "root": root, "spacing": 1.0, "axis": "axial", "intensity": "min-max"}
    dataset = open_dataset(block, None, None)
    image, labels = (np.asarray(nib.load(root / f"{k}/case1.nii.gz").dataobj) for k in ("images", "labels"))
    case = next(case for case in dataset.cases if case.scan_id == "case1" and case.position == 9)
    sample = dataset.read(case)
    # Stored as LAS, shown with the patient's left on the right, and anterior up.
    expected = labels[:, ::-1, 9].T
    rows, columns = np.nonzero(sample.label)
    old_rows, old_columns = np.nonzero(expected)
    np.testing.assert_array_equal(rows - rows[0], old_rows - old_rows[0])
    np.testing.assert_array_equal(columns - columns[0], old_columns - old_columns[0])
    scaled = (image - image.min()) / (image.max() - image.min())
    np.testing.assert_allclose(
        sample.image[0][sample.label > 0], scaled[:, ::-1, 9].T[expected > 0], atol=1e-6
    )
