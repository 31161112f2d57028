"""Confidence intervals over patients.

Every number in the tables is a ratio of two totals over patients, `sum(x) / sum(y)`:

    mean Dice           x = Dice of the patient                          y = 1
    accuracy            x = correctly classified images of the patient   y = images of the patient
    drop                x = score on clean images - score under attack   y = 1, or images of the patient
    drop, relative      x = the same                                     y = score on clean images

so a few functions of `x` and `y` are enough. Patients are taken as independent; images of one patient are
not. `confidence` lies in (0, 1) throughout.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64
from scipy import optimize, special, stats

Totals = Float64[np.ndarray, "patients"]

ROUNDING = 1e-9
"""Scores of patients that differ by less are the same score."""


class Estimate(NamedTuple):
    """A value with the bounds of its confidence interval; NaN where undefined."""

    value: float
    low: float = math.nan
    high: float = math.nan

    def scaled(self, factor: float) -> "Estimate":
        """The estimate in another unit; `factor` is positive."""
        return Estimate(*(factor * number for number in self))

    def clipped(self, low: float, high: float) -> "Estimate":
        """The estimate with its bounds clipped to the possible values."""
        return Estimate(self.value, max(self.low, low), min(self.high, high))


UNDEFINED = Estimate(math.nan)


class Fraction(NamedTuple):
    """A score in [0, 1], and how many right-or-wrong outcomes would say as much about it.

    Attributes:
        value: The score.
        effective: The number of independent 0-or-1 outcomes whose mean would vary as much as the score.
        freedom: Degrees of freedom of that variation.
    """

    value: float
    effective: float
    freedom: int

    def fraction_interval(self, confidence: float) -> Estimate:
        """The wider of Wilson's (with a quantile of t) and Clopper and Pearson's interval, bound by bound.

        Wilson's alone covers an accuracy of .99 in .88 of the studies with 12 photographs (nominal .95), as
        one error puts the bound below it; Clopper and Pearson's alone ignores that the variation is estimated
        from few patients. At 50 patients the two together are 3 % wider than Wilson's alone.

        Source:
            Wilson, J. American Statistical Association 22, 1927; Clopper and Pearson, Biometrika 26, 1934;
            Korn and Graubard, Survey Methodology 24, 1998 (effective number, quantile of t).
        """
        value, n, freedom = self
        t2 = t_quantile(confidence, freedom) ** 2
        if math.isnan(value + n + t2):
            return Estimate(value)
        centre = (value + t2 / (2 * n)) / (1 + t2 / n)
        half = math.sqrt(t2 * (value * (1 - value) / n + t2 / (4 * n**2))) / (1 + t2 / n)
        low, high = clopper_pearson(value, n, confidence)
        # Exactly, the bounds enclose the value and lie in [0, 1]; rounding may miss both in the last bit.
        return Estimate(
            value, max(0.0, min(value, centre - half, low)), min(1.0, max(value, centre + half, high))
        )


def clopper_pearson(fraction: float, n: float, confidence: float) -> tuple[float, float]:
    """Clopper and Pearson's bounds of a fraction of n outcomes; n and `fraction * n` need not be whole."""
    tail, right, wrong = (1 - confidence) / 2, fraction * n, (1 - fraction) * n
    low = float(special.betaincinv(right, wrong + 1, tail)) if right > 0 else 0.0
    high = float(special.betaincinv(right + 1, wrong, 1 - tail)) if wrong > 0 else 1.0
    return low, high


class Ratio(NamedTuple):
    """A ratio of totals.

    Attributes:
        value: The ratio.
        error: Its standard error.
        freedom: Degrees of freedom of the error.
        linear: Each patient's linearised contribution: their mean over patients is the ratio, their spread
            gives the error. With a denominator of 1 these are the scores of the patients.
    """

    value: float
    error: float
    freedom: int
    linear: Totals

    def t_interval(self, confidence: float) -> Estimate:
        """The t interval `value +- t * error`."""
        half = t_quantile(confidence, self.freedom) * self.error
        return Estimate(self.value, self.value - half, self.value + half)

    def interval(self, confidence: float, largest: float = math.inf) -> Estimate:
        """The t interval, wider where the patients have a tail; never of width 0.

        Scaled to the range of the patients, the values are fractions in [0, 1], whose interval is asymmetric
        where they crowd at one end; of the two intervals the wider bounds are taken. For normal differences
        they agree to within 1 %. Where one patient in ten loses .2, the coverage at 50 patients is .96, not
        .90; with a gamma tail of skewness 2.8, at 20 patients, .92, not .90 (nominal .95).

        Args:
            confidence: Level.
            largest: Largest absolute value that the number can have. Where no two patients differ, the
                interval is that of `extremes_interval`; there is none if `largest` is infinite.
        """
        if math.isnan(self.error) or (self.error <= ROUNDING and math.isinf(largest)):
            return Estimate(self.value)
        if self.error <= ROUNDING:
            return extremes_interval(self.linear, confidence, largest)._replace(value=self.value)
        plain = self.t_interval(confidence)
        if not self.varies:
            return plain
        lowest, width = float(self.linear.min()), float(np.ptp(self.linear))
        scaled = (self.linear - lowest) / width
        within = fraction(scaled, np.ones_like(scaled)).fraction_interval(confidence)
        low, high = (lowest + width * bound for bound in within[1:])
        return Estimate(self.value, min(plain.low, low), max(plain.high, high))

    def positive_interval(self, confidence: float) -> Estimate:
        """The interval of a mean of patients' scores that are never below 0 and have no largest value.

        As `interval`, but for an upper bound that is at least the one on the scale of logarithms. Scores of a
        lognormal distribution, as surface distances are, of skewness .9, 1.8 and 3.7 then cover the truth in
        .95, .94 and .91 of the studies with 6 patients (`interval`: .94, .91, .87), in .95, .94, .92 with 12.
        """
        plain = self.interval(confidence).clipped(0.0, math.inf)
        if math.isnan(plain.high) or self.value <= 0:
            return plain
        half = t_quantile(confidence, self.freedom) * self.error / self.value
        # Of two patients at a confidence of .9999 it exceeds what `exp` can give.
        return plain._replace(high=max(plain.high, self.value * math.exp(min(half, 100.0))))

    def fraction_interval(self, confidence: float) -> Estimate:
        """The interval of a mean of patients' scores in [0, 1], which are `linear`.

        The t interval on the scale of log-odds, widened where that of the same mean as a `Fraction` is wider.
        Scores have a tail away from the bound that they are near, and the plain t interval errs on that side:
        with Dice of skewness -1.4 it covers the truth in .90, .91, .93 of the studies with 5, 8, 20 patients,
        this one in .94. Where some scores are identical, as when a structure is wiped out in most patients,
        log-odds show too little variation, and the interval of the `Fraction` is the wider.

        Source:
            Newcombe, The American Statistician 55, 2001 (intervals on the logit scale); the linearised error
            of the log-odds is `error / (value (1 - value))`.
        """
        whole = fraction(self.linear, np.ones_like(self.linear)).fraction_interval(confidence)
        if not self.varies or not 0 < self.value < 1:
            return whole
        half = t_quantile(confidence, self.freedom) * self.error / (self.value * (1 - self.value))
        low, high = special.expit(special.logit(self.value) + np.array([-half, half]))
        return Estimate(self.value, min(float(low), whole.low), max(float(high), whole.high))

    @property
    def varies(self) -> bool:
        """Whether any two patients differ by more than rounding."""
        return bool(np.ptp(self.linear) > ROUNDING) if self.linear.size else False


def t_quantile(confidence: float, freedom: int) -> float:
    """Two-sided quantile of Student's t; NaN without degrees of freedom (a single patient).

    Raises:
        ValueError: `confidence` is not in (0, 1).
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie in (0, 1), e.g. 0.95; got {confidence}.")
    return float(stats.t.ppf((1 + confidence) / 2, freedom)) if freedom > 0 else math.nan


def ratio(x: Totals, y: Totals) -> Ratio:
    """`sum(x) / sum(y)` with its linearised ("delta method") standard error over patients.

    The error is that of the mean of the residuals `x - R y`, with `n - 1` in the denominator. With `y = 1`
    this is exactly the standard error of a mean, so that `ratio(x, 1).t_interval(c)` is Student's t interval.
    The jackknife has the same coverage, but no value where one patient holds all of `y`.

    Returns:
        All NaN where `sum(y)` is 0 or there is no patient; the error NaN for a single patient.

    Source:
        Cochran, Sampling Techniques, 3rd edition, 1977, section 6.4.
    """
    patients, total = x.size, float(y.sum())
    if patients == 0 or total == 0:
        return Ratio(math.nan, math.nan, patients - 1, np.full(patients, math.nan))
    value = float(x.sum()) / total
    residuals = x - value * y
    linear = value + residuals * patients / total
    if patients == 1:
        return Ratio(value, math.nan, 0, linear)
    error = math.sqrt(patients / (patients - 1) * float(residuals @ residuals)) / abs(total)
    return Ratio(value, error, patients - 1, linear)


def mean(values: Totals) -> Ratio:
    """Mean over patients with its standard error; the error NaN for a single patient."""
    return ratio(values, np.ones_like(values))


def fraction(right: Totals, outcomes: Totals) -> Fraction:
    """A fraction `sum(right) / sum(outcomes)` of outcomes in clusters, one cluster per patient.

    Args:
        right: Right outcomes of each patient, or its score in [0, 1].
        outcomes: Outcomes of each patient (images, times cells and seeds where these are averaged), or 1.

    Returns:
        All NaN without outcomes; the effective number NaN for a single patient.
    """
    return mean_of_ratios(right[:, None], outcomes[:, None])


def mean_of_ratios(x: Float64[np.ndarray, "patients k"], y: Float64[np.ndarray, "patients k"]) -> Fraction:
    """Mean of k ratios of totals in [0, 1], such as balanced accuracy.

    Its variance is linearised over patients. A sample in which all patients agree would have none, though
    other patients may differ. So each ratio gets two additional patients, one with 0 and one with 1, weighted
    by the chance of such a sample: `((c - 1) / (n - 1))^n` where c of n patients share the commonest score.
    If all agree, the weight is 1 and the effective number is that of outcomes which depend fully on the
    patient, `N^2 / sum(m^2)`; if all but one do, it is about 1 / e; if no two do, 0.

    Args:
        x: Right images of each patient and class.
        y: Images of each patient and class; classes without any are left out.

    Returns:
        All NaN without images; the effective number NaN for a single patient.
    """
    occurring = y.sum(0) > 0
    x, y = x[:, occurring], y[:, occurring]
    patients, k = x.shape
    if k == 0:
        return Fraction(math.nan, math.nan, patients - 1)
    value, drawn, added = 0.0, 0.0, 0.0
    residuals = np.zeros(patients)
    for right, images in zip(x.T, y.T, strict=True):
        has = images > 0
        n, total = int(has.sum()), float(images.sum())
        alike = _chance_of_no_variance(right[has] / images[has])
        size = float(images @ images) / total
        larger = total + 2 * alike * size
        p = (float(right.sum()) + alike * size) / larger
        correction = (n - alike) / (n - 1) if n > 1 else 1.0
        residuals += np.sqrt(correction / (larger * total)) * (right - p * images)
        added += correction * alike * size**2 * (p**2 + (1 - p) ** 2) / (larger * total)
        value += float(right.sum()) / total / k
        drawn += p / k
    if patients == 1:
        return Fraction(value, math.nan, 0)
    variance = (float(residuals @ residuals) + added) / k**2
    return Fraction(min(value, 1.0), drawn * (1 - drawn) / variance, patients - 1)


def _chance_of_no_variance(scores: Totals) -> float:
    """How probable it is that as many patients again would all share one score, judged from these."""
    if scores.size == 1:
        return 1.0
    _, counts = np.unique(np.round(scores / ROUNDING), return_counts=True)
    return float(((counts.max() - 1) / (scores.size - 1)) ** scores.size)


def wilson(right: Totals, outcomes: Totals, confidence: float) -> Estimate:
    """The interval of an accuracy, as a `fraction` whose outcomes never count for more than independent ones.

    Bounds lie in [0, 1]; they are NaN for a single patient.
    """
    found = fraction(right, outcomes)
    effective = np.minimum(found.effective, float(outcomes.sum()))  # of NaN and a number this is NaN
    return found._replace(effective=float(effective)).fraction_interval(confidence)


def components_interval(value: float, components: Sequence[tuple[float, int]], confidence: float) -> Estimate:
    """The interval of a mean that varies for several reasons: t with Satterthwaite's degrees of freedom.

    With three trainings of each of two networks and two of each of two or more sources it holds the truth in
    .94 or more of the studies; percentiles of crossed resamples in .85 to .95. One reason of a single degree
    of freedom that outweighs all others is not enough: .88.

    Args:
        value: The mean.
        components: For each reason the squared standard error and its degrees of freedom.
        confidence: Level.

    Returns:
        Without bounds where nothing varies, or an error is unknown.

    Source:
        Satterthwaite, Biometrics Bulletin 2, 1946.
    """
    squares = sum(square for square, _ in components)
    if math.isnan(squares) or squares <= ROUNDING**2:
        return Estimate(value)
    freedom = squares**2 / sum(square**2 / each for square, each in components)
    half = float(stats.t.ppf((1 + confidence) / 2, freedom)) * math.sqrt(squares)
    return Estimate(value, value - half, value + half)


FEWEST_ON_A_SIDE = 3
"""Effective patients with positive, and with negative, images that an area's interval needs."""


def effective_number(totals: Totals) -> float:
    """Patients of equal totals that would vary as much, `(sum x)^2 / sum x^2`; 0 without any.

    Source:
        Kish, Survey Sampling, 1965.
    """
    return float(totals.sum()) ** 2 / float(totals @ totals) if totals.any() else 0.0


def auroc_interval(contributions: Totals, positive: Totals, negative: Totals, confidence: float) -> Estimate:
    """The interval of an area under a ROC curve from patients' contributions, wider where a side is rare.

    Few positive (or negative) images show neither how much they vary nor, all of them above the others, that
    they do. So the bounds are at least as wide as those of scores of exponential distributions with as many
    positive and negative images as there are effective patients with any. Among 100 patients of whom 5 % are
    positive, with an area of .92, these hold the truth in .95, contributions alone in .81 (nominal .95).

    Args:
        contributions: Of each patient; their mean is the area, their spread gives its error.
        positive: Positive images of each patient, over all cells that are averaged.
        negative: Negative images.
        confidence: Level.

    Returns:
        Bounds in [0, 1]; NaN with fewer than `FEWEST_ON_A_SIDE` effective patients on either side.

    Source:
        Newcombe, Statistics in Medicine 25, 2006, part 2, method 5, with a quantile of t; Hanley and McNeil,
        Radiology 143, 1982 (the variance).
    """
    found, sides = mean(contributions), [effective_number(each) for each in (positive, negative)]
    if math.isnan(found.error) or min(sides) < FEWEST_ON_A_SIDE - ROUNDING:
        return Estimate(found.value)
    plain = found.fraction_interval(confidence)
    quantile = t_quantile(confidence, found.freedom)
    value = min(max(found.value, ROUNDING), 1 - ROUNDING)  # at 0 and 1 itself the equation has a second root

    def beyond(area: float) -> float:
        more = (sum(sides) / 2 - 1) * ((1 - area) / (2 - area) + area / (1 + area))
        return abs(value - area) - quantile * math.sqrt(area * (1 - area) * (1 + more) / math.prod(sides))

    low, high = (optimize.brentq(beyond, *ends) for ends in ((0, value), (value, 1)))
    return Estimate(found.value, max(0.0, min(plain.low, low)), min(1.0, max(plain.high, high)))


def extremes_interval(values: Totals, confidence: float, largest: float | None = None) -> Estimate:
    """The interval of a mean that assumes nothing about its distribution but how large values can be.

    Losses and gains are each treated as an n-fold choice between nothing and the largest one, which no
    distribution of that range exceeds in variance (Clopper and Pearson's interval), and combined after Zou
    and Donner.

    Args:
        values: Differences of the patients, above and below 0.
        confidence: Level.
        largest: Largest absolute value of a difference, unless a larger one was seen. None: the largest one
            seen on each side; for a side without any, that of the other, or 1.

    Source:
        Zou and Donner, Statistics in Medicine 27, 2008 (the difference of two estimates from their bounds).
    """
    n = float(values.size)
    sides = [np.where(side > ROUNDING, side, 0.0) for side in (values, -values)]
    seen = [float(side.max()) for side in sides]
    most = [max(largest or size or max(seen) or 1.0, size) for size in seen]
    fractions = [float(side.mean()) / size for side, size in zip(sides, most, strict=True)]
    (gain_low, gain_high), (loss_low, loss_high) = (
        [size * bound for bound in clopper_pearson(fraction, n, confidence)]
        for fraction, size in zip(fractions, most, strict=True)
    )
    gain, loss = (fraction * size for fraction, size in zip(fractions, most, strict=True))
    low = gain - loss - math.hypot(gain - gain_low, loss_high - loss)
    high = gain - loss + math.hypot(gain_high - gain, loss - loss_low)
    return Estimate(float(values.mean()), low, high)


def accuracy_difference(x: Totals, y: Totals, images: Totals) -> Ratio:
    """A difference of paired accuracies, `sum(x) / sum(y)`, whose error is not 0 when nothing changed.

    Two accuracies that agree on all of 50 images may still differ by a few points on others, but the plain
    standard error is 0. As Bonett and Price do for single images, two pseudo-observations are added, one
    image lost and one gained; where no patient varies at all, they have the weight of a whole patient
    (`sum(m^2) / N`), as in `fraction`. docs/statistics.md has the coverage with and without them.

    Args:
        x: Right images of each patient under one condition minus those under the other.
        y: `images` for a difference of accuracies; right images under the first condition for a relative
            drop.
        images: Number of images m of each patient.

    Returns:
        The ratio, drawn towards 0 by `N / (N + 2)`, with its error; `linear` is that of `sum(x) / sum(y)`,
        which is the value to report.

    Source:
        Bonett and Price, J. Educational and Behavioral Statistics 37, 2012, for one image per patient.
    """
    plain = ratio(x, y)
    if math.isnan(plain.error):
        return plain
    total = float(images.sum())
    weight = 1.0 if plain.error > 0 else float(images @ images) / total
    shrink = total / (total + 2 * weight)
    mean_y = float(y.sum()) / total
    value = plain.value * shrink
    residuals = x - value * y
    pseudo = weight * (np.array([1.0, -1.0]) - value * mean_y)
    squares = float(residuals @ residuals) + float(pseudo @ pseudo)
    correction = x.size / (x.size - 1)
    error = math.sqrt(correction * squares) / ((total + 2 * weight) * abs(mean_y))
    return Ratio(value, error, plain.freedom, plain.linear)


def paired_interval(
    x: Totals, y: Totals, confidence: float, *, images: Totals | None = None, largest: float = 1.0
) -> Estimate:
    """A paired difference `sum(x) / sum(y)` with its interval.

    Args:
        x: Total of each patient under one condition minus that under the other.
        y: What the difference is divided by: 1, images, or scores.
        confidence: Level.
        images: Number of images of each patient, where scores are numbers of right images.
        largest: Largest absolute value that the difference can have.
    """
    plain = ratio(x, y)
    found = plain if images is None else accuracy_difference(x, y, images)
    return found.interval(confidence, largest)._replace(value=plain.value)
