"""The peers' attacks under one signature `(model, images, labels, **options) -> images`.

`PEERS[attack][library]` is called with the same budget and the same images as medrobust's own. A library is
imported when it is called, so that one that is not installed is missed only there.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

Attack = Callable[..., Tensor]


def foolbox_fgsm(model: nn.Module, images: Tensor, labels: Tensor, *, eps: float) -> Tensor:
    from foolbox.attacks import LinfFastGradientAttack

    return _foolbox(LinfFastGradientAttack(random_start=False), model, images, labels, eps)


def art_fgsm(model: nn.Module, images: Tensor, labels: Tensor, *, eps: float) -> Tensor:
    from art.attacks.evasion import FastGradientMethod

    classifier = art_classifier(model, images)
    attack = FastGradientMethod(classifier, eps=eps, batch_size=len(images))
    return torch.from_numpy(attack.generate(images.numpy(), y=labels.numpy()))


def torchattacks_fgsm(model: nn.Module, images: Tensor, labels: Tensor, *, eps: float) -> Tensor:
    from torchattacks import FGSM

    made: Tensor = FGSM(model, eps=eps)(images, labels)
    return made


def foolbox_deepfool(model: nn.Module, images: Tensor, labels: Tensor, *, steps: int = 50) -> Tensor:
    from foolbox.attacks import L2DeepFoolAttack

    return _foolbox(L2DeepFoolAttack(steps=steps), model, images, labels, None)


def art_deepfool(model: nn.Module, images: Tensor, labels: Tensor, *, steps: int = 50) -> Tensor:
    from art.attacks.evasion import DeepFool

    classifier = art_classifier(model, images)
    attack = DeepFool(classifier, max_iter=steps, epsilon=0.02, batch_size=len(images), verbose=False)
    return torch.from_numpy(attack.generate(images.numpy(), y=labels.numpy()))


def torchattacks_deepfool(model: nn.Module, images: Tensor, labels: Tensor, *, steps: int = 50) -> Tensor:
    from torchattacks import DeepFool

    made: Tensor = DeepFool(model, steps=steps)(images, labels)
    return made


def adv_lib_deepfool(model: nn.Module, images: Tensor, labels: Tensor, *, steps: int = 50) -> Tensor:
    from adv_lib.attacks import df

    made: Tensor = df(model, images, labels, steps=steps)
    return made


def art_saliency_map(
    model: nn.Module, images: Tensor, labels: Tensor, *, goals: Tensor, theta: float, share: float
) -> Tensor:
    """Goes to `goals`: by default ART draws them at random."""
    from art.attacks.evasion import SaliencyMapMethod

    classifier = art_classifier(model, images)
    attack = SaliencyMapMethod(classifier, theta=theta, gamma=share, batch_size=len(images), verbose=False)
    one_hot = np.eye(classifier.nb_classes, dtype=np.float32)[goals.numpy()]
    return torch.from_numpy(attack.generate(images.numpy(), y=one_hot))


def adv_lib_dag(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    targets: Tensor,
    step: float,
    steps: int,
    stop_share: float = 0.0,
    norm: str = "inf",
) -> Tensor:
    """Takes all pixels, and gives the clean image where more than `stop_share` of them is left."""
    from adv_lib.attacks.segmentation import dag

    made: Tensor = dag(
        model,
        images,
        targets,
        targeted=True,
        adv_threshold=1 - stop_share,
        max_iter=steps,
        γ=step,
        p=float(norm),
    )
    return made


def torchattacks_apgd(model: nn.Module, images: Tensor, labels: Tensor, *, eps: float, steps: int) -> Tensor:
    from torchattacks import APGD

    made: Tensor = APGD(model, eps=eps, steps=steps)(images, labels)
    return made


def adv_lib_apgd(model: nn.Module, images: Tensor, labels: Tensor, *, eps: float, steps: int) -> Tensor:
    from adv_lib.attacks import apgd

    options = {"norm": float("inf"), "n_iter": steps, "loss_function": "ce"}
    made: Tensor = apgd(model, images, labels, eps, **options)
    return made


def art_apgd(model: nn.Module, images: Tensor, labels: Tensor, *, eps: float, steps: int) -> Tensor:
    from art.attacks.evasion import AutoProjectedGradientDescent

    climbs = {"eps_step": 2 * eps, "max_iter": steps, "nb_random_init": 1, "loss_type": "cross_entropy"}
    common = {"eps": eps, "batch_size": len(images), "verbose": False}
    attack = AutoProjectedGradientDescent(art_classifier(model, images), **climbs, **common)
    return torch.from_numpy(attack.generate(images.numpy(), y=labels.numpy()))


def torchattacks_fab(model: nn.Module, images: Tensor, labels: Tensor, *, steps: int) -> Tensor:
    """Within any distance, to the nearest class at every step."""
    from torchattacks import FAB

    made: Tensor = FAB(model, eps=1.0, steps=steps, n_classes=_classes(model, images))(images, labels)
    return made


def adv_lib_fab(model: nn.Module, images: Tensor, labels: Tensor, *, steps: int) -> Tensor:
    from adv_lib.attacks import fab

    made: Tensor = fab(model, images, labels, norm=float("inf"), n_iter=steps)
    return made


def torchattacks_square(
    model: nn.Module, images: Tensor, labels: Tensor, *, eps: float, steps: int
) -> Tensor:
    from torchattacks import Square

    made: Tensor = Square(model, eps=eps, n_queries=steps, resc_schedule=False)(images, labels)
    return made


def art_square(model: nn.Module, images: Tensor, labels: Tensor, *, eps: float, steps: int) -> Tensor:
    from art.attacks.evasion import SquareAttack

    options = {"eps": eps, "max_iter": steps, "batch_size": len(images), "verbose": False}
    attack = SquareAttack(art_classifier(model, images), **options)
    return torch.from_numpy(attack.generate(images.numpy(), y=labels.numpy()))


def cospgd_cospgd(
    model: nn.Module, images: Tensor, labels: Tensor, *, eps: float, step: float, steps: int
) -> Tensor:
    """Its functions in the loop of its README."""
    from cospgd import functions

    made: Tensor = functions.init_linf(images, eps)
    for _ in range(steps):
        made.requires_grad_()
        logits = model(made)
        loss = nn.functional.cross_entropy(logits, labels, reduction="none")
        loss = functions.cospgd_scale(logits, labels, loss, num_classes=logits.shape[1]).mean()
        (gradient,) = torch.autograd.grad(loss, made)
        made = functions.step_inf(made, eps, gradient, images, step, False)
    return made


def adv_lib_fmn(model: nn.Module, images: Tensor, labels: Tensor, *, norm: str, steps: int = 100) -> Tensor:
    from adv_lib.attacks import fmn

    made: Tensor = fmn(model, images, labels, norm=float(norm), steps=steps)
    return made


def foolbox_fmn(model: nn.Module, images: Tensor, labels: Tensor, *, norm: str, steps: int = 100) -> Tensor:
    from foolbox import attacks

    name = {"inf": "LInf", "2": "L2", "1": "L1", "0": "L0"}[norm]
    return _foolbox(getattr(attacks, f"{name}FMNAttack")(steps=steps), model, images, labels, None)


def adv_lib_ddn(model: nn.Module, images: Tensor, labels: Tensor, *, steps: int = 100) -> Tensor:
    """Without its rounding to 8 bits."""
    from adv_lib.attacks import ddn

    made: Tensor = ddn(model, images, labels, steps=steps, levels=None)
    return made


def foolbox_ddn(model: nn.Module, images: Tensor, labels: Tensor, *, steps: int = 100) -> Tensor:
    from foolbox.attacks import DDNAttack

    return _foolbox(DDNAttack(steps=steps), model, images, labels, None)


def adv_lib_sigma_zero(model: nn.Module, images: Tensor, labels: Tensor, *, steps: int = 300) -> Tensor:
    from adv_lib.attacks import sigma_zero

    made: Tensor = sigma_zero(model, images, labels, num_steps=steps)
    return made


def adv_lib_alma_prox(
    model: nn.Module, images: Tensor, labels: Tensor, *, share: float = 0.99, steps: int = 500
) -> Tensor:
    """Without the compiler that it calls at its first import."""
    import torch._dynamo
    from adv_lib.attacks.segmentation import alma_prox

    torch._dynamo.config.disable = True  # type: ignore[attr-defined]
    made: Tensor = alma_prox(model, images, labels, adv_threshold=share, num_steps=steps)
    return made.detach()


def adv_lib_pdpgd(
    model: nn.Module, images: Tensor, labels: Tensor, *, share: float = 0.99, steps: int = 500
) -> Tensor:
    from adv_lib.attacks.segmentation import pdpgd

    options = {"adv_threshold": share, "num_steps": steps, "primal_lr": 0.01}
    made: Tensor = pdpgd(model, images, labels, norm=float("inf"), **options)
    return made.detach()


def adv_lib_untargeted_dag(
    model: nn.Module, images: Tensor, labels: Tensor, *, share: float = 0.99, step: float = 3e-3
) -> Tensor:
    from adv_lib.attacks.segmentation import dag

    made: Tensor = dag(model, images, labels, adv_threshold=share, max_iter=500, γ=step)
    return made


TORCHATTACKS = {
    "mi": "MIFGSM",
    "ni": "NIFGSM",
    "di": "DIFGSM",
    "ti": "TIFGSM",
    "si_ni": "SINIFGSM",
    "vmi": "VMIFGSM",
    "vni": "VNIFGSM",
}
TORCHATTACK = {"admix": "Admix", "ssm": "SSA", "bsr": "BSR"}
"""Names of the attacks with our parts in two libraries."""


def torchattacks_transfer(
    part: str, model: nn.Module, images: Tensor, labels: Tensor, *, eps: float, steps: int, **options: Any
) -> Tensor:
    import torchattacks

    attack = getattr(torchattacks, TORCHATTACKS[part])
    made: Tensor = attack(model, eps=eps, alpha=eps / steps, steps=steps, decay=1.0, **options)(
        images, labels
    )
    return made


def torchattack_transfer(
    part: str, model: nn.Module, images: Tensor, labels: Tensor, *, eps: float, steps: int, **options: Any
) -> Tensor:
    import torchattack

    attack = getattr(torchattack, TORCHATTACK[part])
    made: Tensor = attack(model, lambda x: x, images.device, eps=eps, steps=steps, **options)(images, labels)
    return made.detach()


def torchattacks_worst_case(
    model: nn.Module, images: Tensor, labels: Tensor, *, eps: float, steps: int, queries: int
) -> Tensor:
    """Its AutoAttack with so many steps, not ten; APGD and Square where it does not take so few classes."""
    from torchattacks import APGD, APGDT, FAB, MultiAttack, Square

    classes = _classes(model, images)
    attacks = [APGD(model, eps=eps, steps=steps)]
    if classes > 3:
        options = {"eps": eps, "steps": steps, "n_classes": min(classes, 10)}
        attacks += [APGDT(model, **options), FAB(model, multi_targeted=True, **options)]
    attacks.append(Square(model, eps=eps, n_queries=queries, resc_schedule=False))
    made: Tensor = MultiAttack(attacks)(images, labels)
    return made


def art_worst_case(
    model: nn.Module, images: Tensor, labels: Tensor, *, eps: float, steps: int, queries: int
) -> Tensor:
    """The attacks of its AutoAttack one after another, but for DeepFool, which knows no budget."""
    from art.attacks.evasion import AutoProjectedGradientDescent, SquareAttack

    common = {"estimator": art_classifier(model, images), "eps": eps, "batch_size": len(images)}
    common["verbose"] = False
    losses = ["cross_entropy", "difference_logits_ratio"][: 1 + (_classes(model, images) > 2)]
    climbs = {"eps_step": 2 * eps, "max_iter": steps, "nb_random_init": 1}
    attacks = [AutoProjectedGradientDescent(loss_type=loss, **climbs, **common) for loss in losses]
    result, left = images.clone(), torch.arange(len(images))
    for attack in [*attacks, SquareAttack(max_iter=queries, **common)]:
        made = torch.from_numpy(attack.generate(images[left].numpy(), y=labels[left].numpy()))
        result[left] = made
        with torch.no_grad():
            left = left[model(made).argmax(1) == labels[left]]
        if not len(left):
            break
    return result


PEERS: dict[str, dict[str, Attack]] = {
    "fgsm": {"foolbox": foolbox_fgsm, "art": art_fgsm, "torchattacks": torchattacks_fgsm},
    "deepfool": {
        "foolbox": foolbox_deepfool,
        "art": art_deepfool,
        "torchattacks": torchattacks_deepfool,
        "adv_lib": adv_lib_deepfool,
    },
    "saliency_map": {"art": art_saliency_map},
    "dag": {"adv_lib": adv_lib_dag},
    "apgd": {"torchattacks": torchattacks_apgd, "adv_lib": adv_lib_apgd, "art": art_apgd},
    "fab": {"torchattacks": torchattacks_fab, "adv_lib": adv_lib_fab},
    "square": {"torchattacks": torchattacks_square, "art": art_square},
    "cospgd": {"cospgd": cospgd_cospgd},
    "fmn": {"adv_lib": adv_lib_fmn, "foolbox": foolbox_fmn},
    "ddn": {"adv_lib": adv_lib_ddn, "foolbox": foolbox_ddn},
    "sigma_zero": {"adv_lib": adv_lib_sigma_zero},
    "alma_prox": {"adv_lib": adv_lib_alma_prox},
    "pdpgd": {"adv_lib": adv_lib_pdpgd},
    "untargeted_dag": {"adv_lib": adv_lib_untargeted_dag},
    "worst_case": {"torchattacks": torchattacks_worst_case, "art": art_worst_case},
}


PEERS |= {f"transfer {part}": {"torchattacks": partial(torchattacks_transfer, part)} for part in TORCHATTACKS}
PEERS |= {f"transfer {part}": {"torchattack": partial(torchattack_transfer, part)} for part in TORCHATTACK}


def _foolbox(attack: Any, model: nn.Module, images: Tensor, labels: Tensor, eps: float | None) -> Tensor:
    from foolbox import PyTorchModel

    _, made, _ = attack(PyTorchModel(model, bounds=(0, 1), device="cpu"), images, labels, epsilons=eps)
    clipped: Tensor = made
    return clipped


def art_classifier(model: nn.Module, images: Tensor) -> Any:
    """The network as ART wants it."""
    from art.estimators.classification import PyTorchClassifier

    return PyTorchClassifier(
        model,
        loss=nn.CrossEntropyLoss(),
        input_shape=tuple(images.shape[1:]),
        nb_classes=_classes(model, images),
        clip_values=(0.0, 1.0),
        device_type="cpu",
    )


@torch.no_grad()
def _classes(model: nn.Module, images: Tensor) -> int:
    return int(model(images[:1]).shape[1])
