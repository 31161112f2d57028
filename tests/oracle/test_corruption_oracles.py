"""Corruptions against the libraries that have them: the same parameters give the same pixels.

TorchIO is no dependency of the tests that always run; its comparisons are skipped without it (extra `bench`).
"""

import io
import math
from functools import partial

import numpy as np
import pytest
import scipy.ndimage
import skimage.color
import skimage.util
import torch
import torchvision.transforms.functional as TF
from monai.transforms import AdjustContrast, GibbsNoise, KSpaceSpikeNoise
from PIL import Image, ImageEnhance
from scipy.interpolate import BSpline
from scipy.spatial.transform import Rotation

from medrobust.parameters import accepted
from medrobust.perturbations import PERTURBATIONS
from medrobust.perturbations.corruptions import blur, colour, geometry, intensity, kspace
from medrobust.rng import generator

STEP = 1 / 255
SIDE = 224
"""At which radii are those of the references."""


def photographs(n=2, side=SIDE, channels=3, seed=0):
    """Smooth pictures with edges, in steps of 1/255."""
    rng = np.random.default_rng(seed)
    rough = rng.random((n, channels, 9, 9), dtype=np.float32)
    smooth = torch.nn.functional.interpolate(torch.from_numpy(rough), (side, side), mode="bicubic")
    smooth[..., 40:90, 60:110] *= 0.3
    return (smooth.clamp(0, 1) * 255).round() / 255


def volumes(shape=(17, 20, 22), seed=0):
    rng = np.random.default_rng(seed)
    return torch.from_numpy(scipy.ndimage.gaussian_filter(rng.random(shape), 1.5).astype(np.float32))[
        None, None
    ]


def made(name, images, spacing=None, seed="oracle", **parameters):
    """A corruption by its catalogue's entry, with generators that can be made again."""
    rngs = [generator(0, seed, place) for place in range(len(images))]
    labels = torch.zeros(len(images), dtype=torch.int64)
    function = PERTURBATIONS[name].function
    given = accepted(function, {"rngs": rngs, "spacing": spacing})
    result = function(None, images, labels, **given, **parameters)
    return result if isinstance(result, torch.Tensor) else result[0]


def drawing(place=0, seed="oracle"):
    return generator(0, seed, place)


def pictures(images):
    """As Pillow has them."""
    pixels = (images * 255).round().byte().movedim(1, -1).numpy()
    return [Image.fromarray(one[..., 0] if one.shape[-1] == 1 else one) for one in pixels]


def from_pictures(made):
    arrays = np.stack([np.asarray(one, dtype=np.float32) / 255 for one in made])
    return torch.from_numpy(arrays).movedim(-1, 1)


def close(ours, theirs, tolerance):
    theirs = theirs if isinstance(theirs, torch.Tensor) else torch.from_numpy(np.array(theirs))
    difference = (ours.double() - theirs.double()).abs().max().item()
    assert difference <= tolerance


# --- noise: the draws are ours, the formula is the reference's


def test_noise_is_that_of_its_formula():
    images = photographs(1)
    x = images[0].double().numpy()
    normal = drawing().standard_normal(x.shape, dtype=np.float32)
    close(made("gaussian_noise", images, sd=0.18)[0], np.clip(x + 0.18 * normal, 0, 1), 1e-6)
    close(made("speckle_noise", images, sd=0.35)[0], np.clip(x + x * 0.35 * normal, 0, 1), 1e-6)
    close(made("low_dose", images, sd=0.09)[0], np.clip(x + 0.09 * np.sqrt(x + 1) * normal, 0, 1), 1e-6)
    counts = drawing().poisson(x * 25)
    close(made("shot_noise", images, photons=25)[0], np.clip(counts / 25, 0, 1), 1e-6)
    one, other = drawing().standard_normal((2, *x.shape), dtype=np.float32)
    sd = 0.32 * x.std(axis=(1, 2), keepdims=True)
    close(
        made("rician_noise", images, share=0.32)[0],
        np.clip(np.sqrt((x + sd * one) ** 2 + (sd * other) ** 2), 0, 1),
        1e-6,
    )
    speckle = made("lognormal_speckle", images * 0 + 0.2, sigma=0.35) / 0.2
    assert speckle.mean().item() == pytest.approx(1, abs=0.01)
    assert speckle.log().std().item() == pytest.approx(0.35, rel=0.02)


@pytest.mark.parametrize("share", [0.01, 0.17])
def test_impulse_noise_hits_as_many_entries_as_that_of_scikit_image(share):
    images = photographs(1) * 0.8 + 0.1
    theirs = skimage.util.random_noise(images[0].numpy(), mode="s&p", amount=share, rng=0)
    ours = made("impulse_noise", images, share=share)[0].numpy()
    for value in (0, 1):
        error = 4 * math.sqrt(share / 2 / ours.size)
        assert np.mean(ours == value) == pytest.approx(share / 2, abs=error)
        assert np.mean(theirs == value) == pytest.approx(share / 2, abs=error)
    untouched = (ours != 0) & (ours != 1)
    assert np.array_equal(ours[untouched], images[0].numpy()[untouched])


# --- blur


@pytest.mark.parametrize("severity", [1, 3, 5])
@pytest.mark.parametrize("preset", ["medmnist-c-chest", "medmnist-c-tissue"])
def test_gaussian_blur_is_that_of_torchvision(preset, severity):
    kernels = {"medmnist-c-chest": (3, 5, 7, 9, 11), "medmnist-c-tissue": (13, 15, 17, 21, 25)}
    images = photographs()
    theirs = TF.gaussian_blur(images, kernels[preset][severity - 1])
    close(made("gaussian_blur", images, preset=preset, severity=severity), theirs, 1e-5)


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (2.0, 1.5, 0.7)])
def test_smoothing_is_that_of_scipy_and_so_of_torchio(spacing):
    images = volumes()
    theirs = scipy.ndimage.gaussian_filter(images[0, 0].numpy(), [1.6 / size for size in spacing])
    close(made("smoothing", images, spacing=spacing, sd_mm=1.6)[0, 0], theirs, 1e-6)


@pytest.mark.parametrize(("radius", "alias"), [(4, 0.1), (6, 0.3), (8, 0.5), (2.5, 0.1), (10, 0.5)])
def test_defocus_is_the_correlation_with_a_smoothed_disc(radius, alias):
    """As OpenCV computes it: `GaussianBlur` of the disc and `filter2D`, both with mirrored borders."""
    images = photographs(1)
    side = np.arange(-8, 9) if radius <= 8 else np.arange(-radius, radius + 1)
    x, y = np.meshgrid(side, side)
    disc = (x**2 + y**2 <= radius**2).astype(float)
    reach = 1 if radius <= 8 else 2
    disc = scipy.ndimage.gaussian_filter(disc / disc.sum(), alias, radius=reach, mode="mirror")
    disc /= disc.sum()  # theirs are brighter where the disc reaches the border of its array
    theirs = [scipy.ndimage.correlate(one, disc, mode="mirror") for one in images[0].double().numpy()]
    close(made("defocus_blur", images, radius=radius, alias=alias)[0], np.stack(theirs), 2e-6)


def test_motion_blur_is_the_mean_along_a_line_of_half_a_gaussian():
    """ImageMagick's kernel, sampled bilinearly; it takes nearest pixels instead."""
    images = photographs(1)
    radius, sigma, angle = 10, 5, math.radians(drawing().uniform(-45, 45))
    steps = np.arange(2 * radius + 1)
    weights = np.exp(-(steps**2) / (2 * sigma**2))
    rows, columns = np.mgrid[:SIDE, :SIDE].astype(float)
    theirs = np.stack(
        [
            sum(
                weight
                / weights.sum()
                * scipy.ndimage.map_coordinates(
                    one,
                    [rows + step * math.sin(angle), columns + step * math.cos(angle)],
                    order=1,
                    mode="nearest",
                )
                for step, weight in zip(steps, weights, strict=True)
            )
            for one in images[0].double().numpy()
        ]
    )
    close(made("motion_blur", images, radius=radius, sigma=sigma)[0], theirs, 2e-6)


def test_zoom_blur_is_the_mean_of_scipys_zooms():
    images = photographs(1)
    x = images[0].numpy().transpose(1, 2, 0)
    factors = np.arange(1, 1.16, 0.01)
    total = x.astype(float).copy()
    for factor in factors:
        cut = math.ceil(SIDE / factor)
        top = (SIDE - cut) // 2
        large = scipy.ndimage.zoom(x[top : top + cut, top : top + cut], (factor, factor, 1), order=1)
        trim = (large.shape[0] - SIDE) // 2
        total += large[trim : trim + SIDE, trim : trim + SIDE]
    theirs = (total / (len(factors) + 1)).transpose(2, 0, 1)
    close(made("zoom_blur", images, preset="medmnist-c-derma", severity=2)[0], theirs, 2e-5)


def test_anisotropic_sampling_takes_every_nth_pixel_and_interpolates():
    images = photographs(6, side=48)
    ours = made("anisotropic_sampling", images, factor=4.6)
    for place, image in enumerate(images):
        axis = int(drawing(place).integers(2, 4)) - 1
        centres = 23.5 + (np.arange(10) - 4.5) * 4.6
        few = np.take(image.numpy(), np.floor(centres + 0.5).astype(int), axis)
        linear = partial(np.interp, np.arange(48), centres)
        theirs = np.apply_along_axis(linear, axis, few)
        close(ours[place], theirs, 1e-5)


# --- compression


@pytest.mark.parametrize("factor", [0.8, 0.7, 0.35, 0.1])
@pytest.mark.parametrize("side", [SIDE, 97])
def test_pixelate_is_pillows_box_filter(factor, side):
    images = photographs(1, side=side, channels=1)
    picture = Image.fromarray(images[0, 0].numpy(), mode=None)
    few = int(side * factor)
    theirs = picture.resize((few, few), Image.Resampling.BOX).resize((side, side), Image.Resampling.BOX)
    close(made("pixelate", images, factor=factor)[0, 0], np.asarray(theirs), 1e-6)


@pytest.mark.parametrize("quality", [50, 15, 7])
@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_is_that_of_a_file(quality, channels):
    images = photographs(channels=channels)
    theirs = []
    for picture in pictures(images):
        file = io.BytesIO()
        picture.save(file, "JPEG", quality=quality)
        theirs.append(np.asarray(Image.open(file)).reshape(SIDE, SIDE, channels))
    ours = made("jpeg", images, quality=quality)
    assert torch.equal((ours * 255).round().byte().movedim(1, -1), torch.from_numpy(np.stack(theirs)))


# --- intensity and colour


@pytest.mark.parametrize(
    ("name", "enhancer", "factor"),
    [
        ("brightness_up", ImageEnhance.Brightness, 1.3),
        ("brightness_down", ImageEnhance.Brightness, 0.6),
        ("contrast_up", ImageEnhance.Contrast, 1.6),
        ("contrast_down", ImageEnhance.Contrast, 0.4),
    ],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_brightness_and_contrast_are_pillows_but_for_rounding(name, enhancer, factor, channels):
    images = photographs(channels=channels)
    theirs = [enhancer(picture).enhance(factor) for picture in pictures(images)]
    arrays = np.stack([np.asarray(one).reshape(SIDE, SIDE, channels) / 255 for one in theirs])
    close(made(name, images, factor=factor), arrays.transpose(0, 3, 1, 2), 1.01 * STEP)


@pytest.mark.parametrize(("name", "gamma"), [("gamma_up", 1.6), ("gamma_down", 0.4)])
def test_gamma_is_that_of_torchvision_and_monai(name, gamma):
    images = photographs() * 0.7 + 0.1
    close(made(name, images, gamma=gamma), TF.adjust_gamma(images, gamma), 1e-6)
    theirs = np.stack([np.asarray(AdjustContrast(gamma)(one)) for one in images])
    close(made(name, images, gamma=gamma, rescale=True), theirs, 1e-5)


@pytest.mark.parametrize("added", [0.05, 0.25])
def test_saturation_is_that_of_scikit_image(added):
    images = photographs()
    images[0, :, :5] = 0.5  # grey, which turns red
    images[0, :, 5:9] = 0
    hsv = skimage.color.rgb2hsv(images.double().numpy(), channel_axis=1)
    hsv[:, 1] = np.clip(hsv[:, 1] + added, 0, 1)
    close(made("saturate", images, added=added), skimage.color.hsv2rgb(hsv, channel_axis=1), 2e-6)


def test_stains_are_those_of_scikit_image():
    images = photographs(1) * 0.4 + 0.05
    images = torch.from_numpy(  # a slide: no stain is negative
        skimage.color.hed2rgb(images.double().numpy() * 0.2, channel_axis=1)
    ).float()
    factors, additions = torch.tensor([[1.1, 0.8, 0.95]]), torch.tensor([[0.02, 0.1, -0.01]])
    hed = skimage.color.rgb2hed(images.double().numpy(), channel_axis=1)
    unit = -math.log(1e-6)
    hed = hed * factors.numpy()[..., None, None] + additions.numpy()[..., None, None] / unit
    theirs = skimage.color.hed2rgb(hed, channel_axis=1)
    close(colour.restained(images, factors, additions), theirs, 1e-5)


# --- k-space and geometry


@pytest.mark.parametrize("alpha", [0.3, 0.6, 0.9])
@pytest.mark.parametrize("dimensions", [2, 3])
def test_gibbs_ringing_is_that_of_monai(alpha, dimensions):
    images = volumes() if dimensions == 3 else volumes()[:, :, 4]
    theirs = np.asarray(GibbsNoise(alpha)(images[0]))[None].clip(0, 1)
    close(made("gibbs_ringing", images, alpha=alpha), theirs, 1e-5)


def test_a_spike_is_that_of_monai_where_the_place_was_empty():
    """MONAI sets the amplitude and keeps the phase; at a place without amplitude both do the same."""
    images = torch.full((1, 1, 32, 30), 0.5)
    theirs = KSpaceSpikeNoise((20, 9), math.log(0.2 * 0.5 * 32 * 30))(images[0])
    place = torch.tensor([[20.5 / 32, 9.5 / 30]])
    close((images + 0.2 * kspace.wave(images, place))[0], np.asarray(theirs), 1e-5)


# What TorchIO is compared with below, once more by NumPy and SciPy, which are always there.


def test_ghosts_are_weakened_lines_of_numpys_spectrum():
    images = volumes()[..., 4]
    axis = int(drawing().integers(2))
    spectrum = np.fft.fftshift(np.fft.fft2(images[0, 0].double().numpy()))
    lines = np.moveaxis(spectrum, axis, 0)
    kept = lines[lines.shape[0] // 2].copy()
    lines[::2] *= 1 - 1.5
    lines[lines.shape[0] // 2] = kept
    theirs = np.fft.ifft2(np.fft.ifftshift(spectrum)).real.clip(0, 1)
    close(made("ghosting", images, intensity=1.5, ghosts=2)[0, 0], theirs, 1e-6)


def test_a_spike_is_a_number_in_numpys_spectrum():
    images = volumes()
    place = tuple((drawing().random(3).astype(np.float32) * images.shape[2:]).astype(int))
    spectrum = np.fft.fftshift(np.fft.fftn(images[0, 0].double().numpy()))
    spectrum[place] += 0.7 * np.abs(spectrum).max()
    theirs = np.fft.ifftn(np.fft.ifftshift(spectrum)).real.clip(0, 1)
    close(made("spikes", images, intensity=0.7)[0, 0], theirs, 1e-5)


def test_bias_fields_are_numpys_polynomials():
    images = volumes()
    orders = [(a, b, c) for a in range(4) for b in range(4 - a) for c in range(4 - a - b)]
    grid = np.zeros((4, 4, 4))
    for order, value in zip(orders, drawing().uniform(-0.6, 0.6, 20), strict=True):
        grid[order] = value
    axes = [np.linspace(-1, 1, size) for size in images.shape[2:]]
    theirs = images[0, 0].numpy() * np.exp(np.polynomial.polynomial.polygrid3d(*axes, grid))
    close(made("bias_field", images, coefficient=0.6)[0, 0], theirs.clip(0, 1), 1e-5)


def by_scipy(image, matrix, offset):
    """An image resampled about its centre; it goes on as its border is."""
    centre = (np.array(image.shape) - 1) / 2
    start = centre + offset - matrix @ centre
    return scipy.ndimage.affine_transform(image, matrix, start, order=1, mode="nearest")


def test_positions_and_motion_are_those_of_scipy():
    # What comes in from outside is what the border shows, so that it does not matter how it is filled in.
    images = torch.nn.functional.pad(volumes((12, 14, 16)), (6,) * 6, value=0.1)
    spacing = np.array([2.0, 1.5, 1.0])
    x = images[0, 0].double().numpy()
    rng = np.random.default_rng(4)
    degrees, shifts, times = rng.uniform(-5, 5, (2, 3)), rng.uniform(-2, 2, (2, 3)), np.array([0.3, 0.8])
    seen = [x]
    for angles, shift in zip(degrees, shifts, strict=True):
        turn = Rotation.from_euler("ZXY", angles[[2, 0, 1]], degrees=True)  # Rz Rx Ry
        matrix = turn.as_matrix() * spacing / spacing[:, None]
        seen.append(by_scipy(x, matrix, shift / spacing))
        given = (torch.from_numpy(each).float()[None] for each in (angles, shift))
        ours = geometry.voxels(images.shape[2:], images.device)
        own, offset = geometry.rigid(*given, tuple(spacing))
        made_here, _ = geometry.sampled(images, ours @ own.mT + offset[:, None])
        close(made_here[0, 0], seen[-1], 1e-5)
    spectra = [np.fft.fftshift(np.fft.fftn(each)) for each in seen]
    # Half of the way lies between the movements: there the unmoved image is seen, and the first one before.
    joined = np.concatenate([spectra[1][..., :8], spectra[0][..., 8:22], spectra[2][..., 22:]], axis=-1)
    theirs = np.fft.ifftn(np.fft.ifftshift(joined)).real.clip(0, 1)
    parts = (torch.from_numpy(each).float()[None] for each in (times, degrees, shifts))
    close(kspace.moved_during(images, *parts, tuple(spacing))[0, 0], theirs, 1e-5)


def test_deformations_are_scipys_splines():
    control = np.random.default_rng(3).normal(size=7)
    spline = BSpline(np.arange(-3, 8), control, 3)
    theirs = spline((np.arange(33) + 0.5) / 33 * 4)
    close(torch.from_numpy(geometry.splines(33) @ control), theirs, 1e-12)


@pytest.fixture
def torchio():
    library = pytest.importorskip("torchio", reason="TorchIO is not installed; run `make bench-setup`")
    if not library.__version__.startswith("1."):
        pytest.skip("TorchIO 2 means other things by the same parameters")
    return library


peer = pytest.mark.filterwarnings("ignore")


@peer
@pytest.mark.parametrize("severity", [1, 2, 5])
def test_ghosting_is_that_of_torchio(torchio, severity):
    images = volumes()
    ghosts, strength = (3, 5, 7, 9, 11)[severity - 1], (0.5, 1, 1.5, 2, 2.5)[severity - 1]
    axis = int(drawing().integers(2))
    theirs = torchio.Ghosting(ghosts, axis, strength, None)(images[0])
    close(made("ghosting", images, preset="rood-mri", severity=severity), theirs[None].clamp(0, 1), 1e-5)
    flat = images[..., 4]
    theirs = torchio.Ghosting(ghosts, axis, strength, None)(flat[0, ..., None])[..., 0]
    close(made("ghosting", flat, preset="rood-mri", severity=severity), theirs[None].clamp(0, 1), 1e-5)


@peer
def test_spikes_are_those_of_torchio(torchio):
    images = volumes()
    place = drawing().random(3).astype(np.float32)
    theirs = torchio.Spike(place[None].astype(float), 1.5)(images[0])
    close(made("spikes", images, intensity=1.5), theirs[None].clamp(0, 1), 1e-5)


@peer
@pytest.mark.parametrize("dimensions", [2, 3])
def test_bias_fields_are_those_of_torchio(torchio, dimensions):
    images = volumes() if dimensions == 3 else volumes()[..., 4]
    whole = images if dimensions == 3 else images[..., None]
    drawn = drawing().uniform(-0.6, 0.6, len(intensity.powers(dimensions)))
    own = dict(zip(intensity.powers(dimensions), drawn, strict=True))
    every = [
        own.get(powers[:dimensions], 0.0) if sum(powers[dimensions:]) == 0 else 0.0
        for powers in intensity.powers(3)
    ]
    theirs = torchio.BiasField(every, 3)(whole[0])
    close(made("bias_field", images, coefficient=0.6), theirs.view_as(images).clamp(0, 1), 1e-5)


def centred(torchio, images, spacing):
    """A subject whose world coordinates have their origin in the middle, along the axes of the array."""
    affine = np.diag([-spacing[0], -spacing[1], spacing[2], 1.0])  # SimpleITK turns the first two round
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(images.shape[2:]) - 1) / 2)
    return torchio.ScalarImage(tensor=images[0], affine=affine)


@peer
@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (2.0, 1.5, 1.0)])
@pytest.mark.parametrize("times", [(0.2, 0.4, 0.7), (0.6, 0.7, 0.9), (0.1, 0.2, 0.3)])
def test_motion_is_that_of_torchio(torchio, spacing, times):
    """About the origin of world coordinates, which lies in the middle of this image."""
    images = volumes()
    rng = np.random.default_rng(1)
    degrees, shifts = rng.uniform(-5, 5, (3, 3)), rng.uniform(-3, 3, (3, 3))
    whole = torchio.Motion(degrees, shifts, np.array(times), "linear")(centred(torchio, images, spacing))
    ours = kspace.moved_during(
        images,
        *(torch.from_numpy(np.asarray(each)).float()[None] for each in (times, degrees, shifts)),
        spacing,
    )
    close(ours, whole.data[None].clamp(0, 1), 2e-4)


@peer
def test_positions_are_those_of_torchio(torchio):
    images = volumes()
    rng = drawing()
    angles, shifts = rng.uniform(-12, 12, 3), rng.uniform(-4, 4, 3)
    spacing = (2.0, 1.5, 1.0)
    # TorchIO turns angles and shifts into SimpleITK's directions; the axes of this image are those already.
    there = np.array([-1, -1, 1])
    transform = torchio.Affine(1, angles * there, shifts * there, default_pad_value="minimum")
    theirs = transform(centred(torchio, images, spacing)).data[None]
    ours = made("affine", images, spacing=spacing, translation_mm=4, rotation=12)
    close(ours, theirs, 1e-4)


@peer
def test_deformations_are_those_of_torchio(torchio):
    images, spacing = volumes(), (2.0, 1.5, 1.0)
    points = np.random.default_rng(2).uniform(-1.5, 1.5, (7, 7, 7, 3))
    transform = torchio.ElasticDeformation(points, (1.5, 1.5, 1.5))
    theirs = transform(centred(torchio, images, spacing)).data[None]
    control = torch.from_numpy(points / np.array(spacing)).float()[None]
    space = images.shape[2:]
    points = geometry.voxels(space, images.device) + geometry.bent(control, space)
    ours, inside = geometry.sampled(images, points)
    # At the border some pixels come from just inside for the one and from just outside for the other.
    inner = (..., *(slice(3, -3),) * 3)
    assert inside[inner].all()
    close(ours[inner], theirs[inner], 1e-3)


def test_orientations_are_those_of_numpy():
    images = photographs(side=31)
    close(made("flip", images), images.numpy()[..., ::-1].copy(), 0)
    close(made("flip", images, axis=-2), images.numpy()[:, :, ::-1].copy(), 0)
    for turns in (1, 2, 3):
        close(made("quarter_turns", images, turns=turns), np.rot90(images.numpy(), turns, (2, 3)).copy(), 0)
    close(made("swapped_axes", images), images.numpy().swapaxes(2, 3), 0)


def test_a_turn_is_that_of_scipy():
    images = photographs(1, side=41, channels=1)
    sign = drawing().choice((-1.0, 1.0))
    theirs = scipy.ndimage.rotate(
        images[0, 0].double().numpy(), -20 * sign, reshape=False, order=1, mode="constant", cval=images.min()
    )
    ours = made("rotation", images, degrees=20)[0, 0]
    inner = slice(12, -12)
    close(ours[inner, inner], theirs[inner, inner], 1e-5)


def test_shifts_of_lines_are_shifts_of_the_image_where_all_lines_agree():
    images = photographs(1, side=32)
    whole = torch.tensor([3.0, -5.0])[None, :, None].expand(1, 2, 32)
    moved = kspace.shifted_by_line(images, whole)
    close(moved.real, np.roll(images.numpy(), (3, -5), (2, 3)), 1e-5)
    rng = np.random.default_rng(0)
    any_shifts = torch.from_numpy(rng.uniform(-9, 9, (1, 2, 32))).float()
    energy = kspace.shifted_by_line(images, any_shifts).abs().square().sum()
    assert energy.item() == pytest.approx(images.square().sum().item(), rel=1e-5)  # Parseval
    close(kspace.inverse(kspace.spectra(images)).real, images, 1e-6)


def test_blur_and_kernels_have_the_weight_of_one():
    assert blur.disc(6, 0.3).sum() == pytest.approx(1)
    assert blur.line(21, 5, 30).sum() == pytest.approx(1)
    assert blur.coarse(48, 4.6).sum(1) == pytest.approx(1)
    assert geometry.splines(40).sum(1) == pytest.approx(1)
