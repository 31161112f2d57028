from medrobust.errors import unknown


def test_unknown_names_the_nearest_and_all_known() -> None:
    assert unknown("perturbation", "fsgm", ["fgsm", "deepfool"]) == (
        "Unknown perturbation 'fsgm'. Did you mean 'fgsm'? Known: deepfool, fgsm."
    )


def test_unknown_suggests_nothing_that_is_far_away() -> None:
    assert unknown("model", "zzz", ["unet"]) == "Unknown model 'zzz'. Known: unet."


def test_unknown_of_an_empty_catalogue() -> None:
    assert unknown("model", "unet", []).endswith("Known: none.")
