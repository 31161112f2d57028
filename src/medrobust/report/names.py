"""Columns of tables in words."""

NAMES = {
    "model": "network",
    "source": "crafted on",
    "drop_points": "drop in points",
    "drop_percent": "drop in %",
    "n_cases": "cases",
    "n_scans": "scans",
    "ssim": "SSIM",
    "ssim_image": "SSIM, whole image",
    "mse": "MSE",
    "l0": "L0",
    "psnr": "PSNR",
    "l2": "L2",
    "linf": "L∞",
    "p_holm": "p, Holm",
    "p_equal": "p equal",
    "p_equal_holm": "p equal, Holm",
    "share_first": "share first",
    "drop_difference": "drop, difference in points",
    "neutral_difference": "sources of neither, difference",
    "n_neutral_sources": "sources of neither",
    "clean_difference": "clean, difference",
    "extra_drop_points": "extra drop in points",
    "ssim_noise": "SSIM of noise",
    "ssim_attack": "SSIM of attack",
    "l2_mean": "L2, mean",
    "l2_median": "L2, median",
    "source_seed": "seed",
    "same_pretraining": "same pre-training",
    "ssim_wanted": "SSIM wanted",
    "ssim_reached": "SSIM reached",
    "dice": "Dice",
    "nsd": "NSD",
    "hd95": "HD95",
    "hd95_undefined": "HD95 undefined",
    "sd_patients": "SD between patients",
    "sd_targets": "SD between trainings",
    "sd_surrogates": "SD between surrogates",
    "n_targets": "trainings",
    "n_surrogates": "surrogates",
    "n_inactive": "nothing to attack",
    "n_missed": "unreachable",
}


def column_name(name: str, unit: str) -> str:
    """A column's name in words; what is called a patient is the study's unit."""
    words = NAMES.get(name, name.removeprefix("n_").replace("_", " "))
    return words.replace("patient", unit)
