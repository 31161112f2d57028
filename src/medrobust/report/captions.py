"""What stands above each table: what its numbers are, and over how many patients."""

from medrobust.report.context import ReportContext
from medrobust.report.display import capitalised

CAPTIONS = {
    "table1": "Table 1. {Score} of each network on clean images, on {noise}, and its mean over all attacks "
    "and sources. Drops are from clean to adversarial, paired: in points, and in % of clean. {basis}",
    "false_positives": "False positives that {score} leaves out. Absent structures: the volume ({volume} per "
    "scan) shown of structures that the scan does not have ({absent}). Empty cases: the share of evaluated "
    "cases without any label ({empty}) in which anything is shown, and the volume shown there. Means over "
    "the scans concerned, without intervals.",
    "whole_test": "{Score} on clean images of the whole test set; Table 1 is on the cases that are "
    "attacked. Nothing else is computed from these. {basis}",
    "off_diagonal": "The adversarial score over sources of other architectures only; not on identical "
    "images for all networks. {basis}",
    "balanced": "Balanced accuracy (the mean over classes) on clean images and under each attack, target by "
    "source. {basis}",
    "plane": "Clean and mean adversarial score of each network. On front: no other network is at least as "
    "good in both and better in one.",
    "quality": "More than accuracy: F1 and area under the ROC curve (means over the classes that occur), "
    "Brier score (0 to 2) and expected calibration error, and the mean confidence where the answer is wrong. "
    "Without intervals.",
    "worst_structures": "Of each network the structure with the lowest mean {Score}, and its volume error: "
    "the mean of (shown \u2212 true) / true. {basis}",
    "seeds": "Each trained network alone. So few seeds show no variance and have no interval.",
    "variance": "How much {score} varies: standard deviation between {units}, and of the mean between "
    "trainings of the network itself and of the networks that attacks were crafted on (from three trainings "
    "on).",
    "ranking": "Ranks that the tests leave open, best network first. Share first: of resamples of the "
    "{units} in which the network comes first (not shown below 20 {units}).",
    "pairs": "Each pair of networks under attack: difference of the mean adversarial scores, first "
    "minus second, paired. p by sign flips of {unit} totals, adjusted after Holm. {basis}",
    "pairs_beside": "The same pairs by other measures: drop in points, sources of neither "
    "architecture, clean images (p equal: two one-sided tests), and {units} needed for 80\u00a0% power. "
    "{basis}",
    "table2": "Table 2. {Score} under each attack, target by source; framed is the target's own "
    "surrogate (same architecture, trained apart). {basis}",
    "curve": "{Score} at each budget and of the noise matched to it, averaged over the sources that all "
    "networks face. {basis}",
    "transfer_conditions": "What a source shares with a target; the more, the easier an attack "
    "transfers. Same pre-training: both were trained from the same weights, so transfer is inflated. Shared "
    "training: share of the source's training {units} that trained the target too. Unknown: of networks "
    "that were not trained here.",
    "architectures": "Differences of the mean adversarial score between architectures, first minus second: "
    "patients and seeds are resampled crossed, by percentiles. {basis}",
    "conditional": "Table 2 on the scans of which no attack dropped a case: conditional on what the attacks "
    "reached, not to be compared with Tables 1 and 2. {basis}",
    "other_sources": "Attacks from sources that only some targets face; they enter no average. {basis}",
    "transfer_rate": "Share of images fooled among those that the source and every target get right "
    "when clean.",
    "noise": "{Score} on {noise}; matched noise by the source of its attack. {basis}",
    "noise_control": "Each attack against its own matched noise: does it do more harm than noise that "
    "changes the images as much? Extra drop in points, paired; p by sign flips, adjusted after Holm. "
    "{basis}",
    "matching": "How well the noise has the SSIM of its attack (means over the support). "
    "Unreachable: images whose strength could not be found within the tolerance.",
    "whitebox": "{Score} when the attack is crafted on the judged network itself. {basis}",
    "structure_overview": "Each structure of {of}, clean and under {attack}, the attack of its lowest mean "
    "{Score}: {Score}, NSD within {tolerance}, HD95 in {length}, and volume error, the mean of "
    "(shown \u2212 true) / true; averaged over the sources that all networks face. {basis}",
    "structures": "{Score} of each structure of {of}, averaged over the sources that all networks "
    "face. {basis}",
    "audit": "What an audit of all files found, one row per kind, the first of it in words (audit.json has "
    "all). Errors make numbers wrong, warnings may mislead, notes are worth knowing.",
    "subgroups": "{Score} by {of}: clean, with noise and under attack, and the paired drop from clean to "
    "adversarial in points. {basis}",
    "surfaces": "Boundaries, means over structures: NSD, the share of the boundaries of truth and "
    "prediction that lie within {tolerance} of each other (0 where nothing is shown), and HD95, the larger "
    "of the two 95th percentiles of their distances, in {length}. HD95 needs the structure in both; where no "
    "case of a scan has that it is left out: see the share undefined, and compare NSD. Missed: of cases with "
    "a structure, the share in which nothing of it is shown. Added: of cases that show one, the share "
    "without it. {basis}",
    "structure_surfaces": "NSD within {tolerance} of each structure of {of}, averaged over the sources that "
    "all networks face. {basis}",
    "classes": "Share of the images of each class that {of} gets right, over the sources that all networks "
    "face. {basis}",
    "success": "Whether the attacks fooled the network that they were crafted on, measured once, on the "
    "images as stored: {fooled}, what was wrong before, and what became of the images.",
    "changes": "How far the attacks changed the images: means, of steps the median. PSNR in dB is over the "
    "images that were changed at all; L0 is the number of changed values of an image, L∞ the largest change.",
    "budgets": "Budgets solved for an SSIM on validation cases, and the mean SSIM that they give on the test "
    "cases.",
    "selftests": "Whether each attack is as strong as it should be on the network that it was crafted on, "
    "tried on {images} {part} cases (a dash: does not apply, or these images do not tell). Columns of "
    "attacks that fail stand in Tables 1 and 2, and are left out of the verdict.",
    "rounded": "Table 1 on attacked and noisy images rounded to the bits they would be saved with. {basis}",
    "embedding": "How far attack and noise move the images in the network's features (a ratio, "
    "geometric mean), and the share of an image's 10 nearest clean neighbours that have its class; of "
    "about 2,000 cases where there are more. "
    "{basis}",
}
FOOLED = {
    "accuracy": "fooled is the share of images that it gets wrong then, fooled of right the same among those "
    "that it gets right when clean",
    "Dice": "fooled is the share of the pixels to be changed that it shows as what the attack wanted",
}


def caption(name: str, context: ReportContext, of: str = "", **facts: object) -> str:
    """The caption of a table, or of its part about one network; an unknown table goes by its name.

    `facts` are what only this caption says.
    """
    return CAPTIONS.get(name, capitalised(name.replace("_", " ")) + ".").format(
        Score=capitalised(context.score),
        score=context.score,
        basis=f"In brackets: {100 * context.confidence:g}\u00a0% intervals over {context.units}.",
        noise="noise matched to the attacks" if context.matched_noise else "noise of fixed strength",
        unit=context.unit,
        units=context.units,
        of=of,
        fooled=FOOLED[context.score],
        **facts,
    )
