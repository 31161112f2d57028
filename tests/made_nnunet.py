"""A results folder of nnU-Net, made by its planning, preprocessing and trainer: `made_nnunet.py FOLDER`."""

import json
import os
import sys
from pathlib import Path

import nibabel
import numpy as np

SHAPE, CASES = (40, 36, 32), 5


def environment(folder: Path) -> dict[str, str]:
    """What nnU-Net reads when it is imported."""
    names = {"raw": "raw", "preprocessed": "preprocessed", "results": "results"}
    paths = {f"nnUNet_{name}": str(folder / part) for name, part in names.items()}
    return paths | {"nnUNet_n_proc_DA": "1", "nnUNet_compile": "f", "nnUNet_def_n_proc": "1"}


def phantom(case: int) -> tuple[np.ndarray, np.ndarray]:
    """A ball in a ball, and which is which."""
    rng = np.random.default_rng(case)
    grid = np.stack(np.meshgrid(*(np.linspace(-1, 1, side) for side in SHAPE), indexing="ij"))
    distance = np.sqrt(((grid - rng.uniform(-0.2, 0.2, (3, 1, 1, 1))) ** 2).sum(0))
    labels = (distance < 0.8).astype(np.uint8) + (distance < 0.4)
    return (np.array([0.2, 0.5, 0.9])[labels] + rng.normal(0, 0.15, SHAPE)).astype(np.float32), labels


def results(folder: Path) -> Path:
    """Where the trainer leaves its results."""
    return folder / "results" / "Dataset001_Phantom" / "nnUNetTrainer__nnUNetPlans__3d_fullres"


def main(folder: Path) -> None:
    os.environ.update(environment(folder))
    data = folder / "raw" / "Dataset001_Phantom"
    for part in ("imagesTr", "labelsTr"):
        (data / part).mkdir(parents=True)
    for case in range(CASES):
        image, labels = phantom(case)
        nibabel.save(nibabel.Nifti1Image(image, np.eye(4)), data / "imagesTr" / f"c{case}_0000.nii.gz")
        nibabel.save(nibabel.Nifti1Image(labels, np.eye(4)), data / "labelsTr" / f"c{case}.nii.gz")
    described = {
        "channel_names": {"0": "T1"}, "labels": {"background": 0, "shell": 1, "core": 2},
        "numTraining": CASES, "file_ending": ".nii.gz",
    }  # fmt: skip
    (data / "dataset.json").write_text(json.dumps(described))

    import torch
    from nnunetv2.experiment_planning import plan_and_preprocess_api as planning
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    planning.extract_fingerprints([1], num_processes=1)
    planning.plan_experiments([1], gpu_memory_target_in_gb=8)
    file = folder / "preprocessed" / "Dataset001_Phantom" / "nnUNetPlans.json"
    plans = json.loads(file.read_text())
    configuration = plans["configurations"]["3d_fullres"]
    configuration |= {"patch_size": [16, 20, 24], "batch_size": 2}
    configuration["architecture"]["arch_kwargs"] |= {
        "n_stages": 3, "features_per_stage": [8, 16, 32], "kernel_sizes": [[3] * 3] * 3,
        "strides": [[1] * 3, [2] * 3, [2] * 3],
        "n_conv_per_stage": [1] * 3, "n_conv_per_stage_decoder": [1] * 2,
    }  # fmt: skip
    file.write_text(json.dumps(plans))
    planning.preprocess([1], configurations=["3d_fullres"], num_processes=[1])
    os.environ |= {"nnUNet_n_proc_DA": "0"}  # planning wants one process at least, and the trainer none
    described = json.loads((file.parent / "dataset.json").read_text())
    trainer = nnUNetTrainer(
        plans | {"continue_training": False}, "3d_fullres", 0, described, device=torch.device("cpu")
    )
    trainer.num_epochs, trainer.num_iterations_per_epoch, trainer.num_val_iterations_per_epoch = 2, 25, 1
    trainer.run_training()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
