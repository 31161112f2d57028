"""How far two images are apart: SSIM over the image or over a support, and norms of the difference.

All functions take two batches of images in [0, 1] of shape `n c *space` (2D or 3D) and give one number per
image. Those of SSIM raise ValueError where the shapes differ or an image is smaller than the window.

SSIM is that of Wang et al. 2004, "Image quality assessment: from error visibility to structural similarity":
Gaussian window of 11 pixels with sigma 1.5, data range 1, per channel, then the mean over channels. Borders
are as in scikit-image: images are mirrored for the window, and means leave out the outermost 5 pixels.
It equals `skimage.metrics.structural_similarity` with `gaussian_weights=True, sigma=1.5,
use_sample_covariance=False, win_size=11, data_range=1`.
"""

from functools import cache

import torch
from jaxtyping import Bool, Float
from torch import Tensor

WINDOW = 11
SIGMA = 1.5
BORDER = WINDOW // 2
LUMINANCE_CONSTANT = 0.01**2
CONTRAST_CONSTANT = 0.03**2


def ssim_map(
    images: Float[Tensor, "n c *space"], others: Float[Tensor, "n c *space"]
) -> Float[Tensor, "n 1 *space"]:
    """SSIM of every pixel, mean over channels; take `mean_over` of it.

    Two forms keep float32 exact enough. The covariance comes from the difference d of the images,
    2 cov(a, b) = var a + var b - var d, because var d is small where SSIM is close to 1; and the variances
    are taken about the mean of the image, because local means far from 0 would cancel.

    Returns:
        Values in [-1, 1], exactly 1 where the images agree within the window.
    """
    if images.shape != others.shape:
        raise ValueError(
            f"others: must have the shape of images, {tuple(images.shape)}; got {tuple(others.shape)}."
        )
    if min(images.shape[2:]) < WINDOW:
        raise ValueError(
            f"images: SSIM needs at least {WINDOW} pixels along every axis, got {tuple(images.shape[2:])}; "
            "use larger images."
        )
    centre = images.mean(dim=tuple(range(2, images.ndim)), keepdim=True)
    difference = others - images
    mean, mean_difference = blur(images), blur(difference)
    other_mean = mean + mean_difference
    variances = blur((images - centre).square() + (others - centre).square())
    variances = variances - (mean - centre).square() - (other_mean - centre).square()
    variance_of_difference = blur(difference.square()) - mean_difference.square()
    squared_means = mean.square() + other_mean.square()
    luminance = 1 - mean_difference.square() / (squared_means + LUMINANCE_CONSTANT)
    contrast_and_structure = 1 - variance_of_difference / (variances + CONTRAST_CONSTANT)
    return (luminance * contrast_and_structure).mean(1, keepdim=True)


def mean_over(
    values: Float[Tensor, "n 1 *space"], support: Bool[Tensor, "n 1 *space"] | None = None
) -> Float[Tensor, " n"]:
    """Mean of an SSIM map without its border, over the whole image or over a support.

    Args:
        values: From `ssim_map`.
        support: Pixels that count; None: all.

    Returns:
        The mean of each image; NaN where no pixel counts.
    """
    values = _without_border(values).flatten(1)
    if support is None:
        return values.mean(1)
    counts = _without_border(support).flatten(1)
    return (values * counts).sum(1) / counts.sum(1)


def ssim(
    images: Float[Tensor, "n c *space"],
    others: Float[Tensor, "n c *space"],
    support: Bool[Tensor, "n 1 *space"] | None = None,
) -> Float[Tensor, " n"]:
    """Structural similarity of each pair of images.

    Args:
        images: Images in [0, 1].
        others: What they are compared with, in [0, 1].
        support: Pixels over which the map is averaged; None: all.

    Returns:
        Values in [-1, 1]; exactly 1 for equal images; NaN where the support is empty.

    Raises:
        ValueError: The shapes differ, or an image is smaller than the 11 pixels of the window.

    >>> image = torch.ones(1, 3, 16, 16)
    >>> ssim(image, image)
    tensor([1.])
    """
    return mean_over(ssim_map(images, others), support)


def _without_border(values: Tensor) -> Tensor:
    """`values` of shape `n 1 *space` without the pixels whose window leaves the image."""
    for axis in range(2, values.ndim):
        values = values.narrow(axis, BORDER, values.shape[axis] - 2 * BORDER)
    return values


def blur(images: Float[Tensor, "n c *space"], pixels: slice = slice(None)) -> Float[Tensor, "n c *pixels"]:
    """Gaussian mean around the given `pixels` along each axis; the image is mirrored at its borders."""
    with torch.autocast(images.device.type, enabled=False):
        for axis in range(2, images.ndim):
            matrix = _blur_matrix(images.shape[axis])[pixels].to(images)
            images = (images.movedim(axis, -1) @ matrix.T).movedim(-1, axis)
    return images


@cache
def _blur_matrix(size: int) -> Float[Tensor, "{size} {size}"]:
    """The blur along one axis as a matrix, mirrored borders included.

    At the sizes of networks' inputs one matrix product is faster than a convolution, in 2D and in 3D.
    """
    offsets = torch.arange(-BORDER, BORDER + 1)
    weights = (-0.5 * (offsets.double() / SIGMA).square()).softmax(0)
    columns = torch.arange(size)[:, None] + offsets
    columns = torch.where(columns < 0, -1 - columns, columns)
    columns = torch.where(columns >= size, 2 * size - 1 - columns, columns)
    empty = torch.zeros(size, size, dtype=torch.float64)
    return empty.scatter_add_(1, columns, weights.repeat(size, 1))


def mse(images: Float[Tensor, "n c *space"], others: Float[Tensor, "n c *space"]) -> Float[Tensor, " n"]:
    """Mean squared difference over all entries of an image."""
    return (images - others).square().flatten(1).mean(1)


def l0(images: Float[Tensor, "n c *space"], others: Float[Tensor, "n c *space"]) -> Float[Tensor, " n"]:
    """Number of entries (pixel and channel) that differ."""
    return (images != others).flatten(1).sum(1).to(images.dtype)


def l2(images: Float[Tensor, "n c *space"], others: Float[Tensor, "n c *space"]) -> Float[Tensor, " n"]:
    """Euclidean norm of the difference."""
    return (images - others).square().flatten(1).sum(1).sqrt()


def linf(images: Float[Tensor, "n c *space"], others: Float[Tensor, "n c *space"]) -> Float[Tensor, " n"]:
    """Largest absolute difference of an entry."""
    return (images - others).abs().flatten(1).amax(1)
