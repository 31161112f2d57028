"""Networks as people write them, for `load: own_networks:<name>`: each builder says what is peculiar."""

import warnings
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint


class Plain(nn.Module):
    """Convolution, batch norm, global mean, linear layer."""

    def __init__(self, outputs: int = 2, channels: int = 3) -> None:
        super().__init__()
        self.stem = nn.Conv2d(channels, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.head = nn.Linear(4, outputs)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.norm(self.stem(images)).relu().mean((2, 3)))


class Around(nn.Module):
    """Something done with a network, as `forward` says."""

    def __init__(self, body: nn.Module, forward: Callable[["Around", Tensor], object]) -> None:
        super().__init__()
        self.body, self.how = body, forward

    def forward(self, images: Tensor) -> object:
        return self.how(self, images)


def plain(classes: int) -> nn.Module:
    return Plain(classes)


def grey(classes: int) -> nn.Module:
    return Plain(classes, 1)


def of_timm(classes: int) -> nn.Module:
    network = Plain(classes)
    network.pretrained_cfg = {"mean": (0.1, 0.2, 0.3), "std": (0.5, 0.6, 0.7)}
    return network


def forward_of(classes: int) -> object:
    return Plain(classes).forward


def around_numpy(classes: int) -> object:
    network = Plain(classes).eval()
    return lambda images: network(torch.from_numpy(images.numpy())).detach().numpy() - 1


def ask(pictures: Tensor, url: str = "https://...") -> Tensor:
    """A service."""
    return torch.stack([pictures.mean((1, 2, 3)), -pictures.amax((1, 2, 3))], 1)


def ask_for_json(pictures: Tensor) -> list[list[float]]:
    return ask(pictures).tolist()


def ask_in_vain(pictures: Tensor) -> Tensor:
    raise ConnectionError("503")


class Packed(Tensor):
    """As quantised weights of other libraries: it knows few operations."""

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        if func.__name__ in ("ne", "any", "isnan", "reshape", "view", "mul_"):
            raise NotImplementedError(func)
        if func is F.linear:
            return func(*(arg.dequantize() if isinstance(arg, Packed) else arg for arg in args))
        return super().__torch_function__(func, types, args, kwargs or {})

    def dequantize(self) -> Tensor:
        return self.as_subclass(Tensor)


def quantised(classes: int) -> nn.Module:
    network = Plain(classes)
    network.head.weight = nn.Parameter(network.head.weight.data.as_subclass(Packed))
    return network


def of_unknown(k: int) -> nn.Module:
    return Plain(k)


def image_and_age(classes: int) -> nn.Module:
    class WithAge(Plain):
        def forward(self, images: Tensor, age: Tensor, *, sex: Tensor, scale: float = 1.0) -> Tensor:
            return scale * super().forward(images) + age + sex

    return WithAge(classes)


def tuple_in_training(classes: int) -> nn.Module:
    def forward(self: Around, images: Tensor) -> object:
        logits = self.body(images)
        return (logits, logits[:, :1]) if self.training else logits

    return Around(Plain(classes), forward)


def dict_of_logits(classes: int) -> nn.Module:
    return Around(Plain(classes), lambda self, images: {"aux": None, "logits": self.body(images)})


def one_logit() -> nn.Module:
    return Plain(1)


def one_logit_squeezed() -> nn.Module:
    return Around(Plain(1), lambda self, images: self.body(images).squeeze())


def one_logit_flat() -> nn.Module:
    return nn.Sequential(Plain(1), nn.Flatten(0))


def squeezed(classes: int) -> nn.Module:
    return Around(Plain(classes), lambda self, images: self.body(images).squeeze())


def half(classes: int) -> nn.Module:
    return Plain(classes).half()


def double(classes: int) -> nn.Module:
    return Plain(classes).double()


def bfloat16_inside(classes: int) -> nn.Module:
    return Around(Plain(classes).bfloat16(), lambda self, images: self.body(images.bfloat16()))


def in_place(classes: int) -> nn.Module:
    return Around(Plain(classes), lambda self, images: self.body(images.sub_(0.5).div_(0.2)))


def views(classes: int) -> nn.Module:
    """A `view` of feature maps, which channels last forbids, as in tutorials of many years."""
    body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.MaxPool2d(2))
    head = nn.Linear(4 * 5 * 5, classes)
    network = Around(body, lambda self, images: self.head(self.body(images).view(-1, 4 * 5 * 5)))
    network.head = head
    return network


def lazy(classes: int) -> nn.Module:
    return nn.Sequential(nn.LazyConv2d(4, 3), nn.LazyBatchNorm2d(), nn.Flatten(), nn.LazyLinear(classes))


def data_parallel(classes: int) -> nn.Module:
    return nn.DataParallel(Plain(classes))


def compiled(classes: int) -> nn.Module:
    return torch.compile(Plain(classes), backend="eager")  # type: ignore[return-value]


def _scripted(make: Callable[[], nn.Module]) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return make()


def scripted(classes: int) -> nn.Module:
    return _scripted(lambda: torch.jit.script(Plain(classes)))


def traced(classes: int) -> nn.Module:
    return _scripted(lambda: torch.jit.trace(Plain(classes).eval(), torch.rand(2, 3, 12, 12)))


def frozen_script(classes: int) -> nn.Module:
    return _scripted(lambda: torch.jit.freeze(torch.jit.script(Plain(classes).eval())))


def exported(classes: int) -> nn.Module:
    batch = ({0: torch.export.Dim("batch")},)
    return torch.export.export(
        Plain(classes).eval(), (torch.rand(2, 3, 12, 12),), dynamic_shapes=batch
    ).module()


def zero_head(classes: int) -> nn.Module:
    """Says the same of every image until it is trained, as vision transformers do."""
    network = Plain(classes)
    nn.init.zeros_(network.head.weight)
    nn.init.zeros_(network.head.bias)
    return network


def partly_frozen(classes: int) -> nn.Module:
    network = Plain(classes)
    network.stem.requires_grad_(False)
    return network


def frozen(classes: int) -> nn.Module:
    return Plain(classes).requires_grad_(False)


class _Means(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return images.mean((2, 3))[:, :2] * 3


def no_weights() -> nn.Module:
    return _Means()


def no_running_statistics(classes: int) -> nn.Module:
    network = Plain(classes)
    network.norm = nn.BatchNorm2d(4, track_running_stats=False)
    return network


def no_running_statistics_behind_a_zero_head(classes: int) -> nn.Module:
    network = zero_head(classes)
    network.norm = nn.BatchNorm2d(4, track_running_stats=False)  # type: ignore[assignment]
    return network


def centred_on_the_batch(classes: int) -> nn.Module:
    return Around(Plain(classes), lambda self, images: self.body(images - images.mean(0)))


def attends_to_the_batch(classes: int) -> nn.Module:
    def forward(self: Around, images: Tensor) -> object:
        logits = self.body(images)
        return (logits @ logits.T).softmax(1) @ logits

    return Around(Plain(classes), forward)


def _masked(body: nn.Module, before: Callable[[Tensor], Tensor]) -> nn.Module:
    """The last class is not asked for."""

    def forward(self: Around, images: Tensor) -> object:
        logits = self.body(before(images))
        return torch.cat([logits[:, :-1], torch.full_like(logits[:, -1:], -1e9)], 1)

    return Around(body, forward)


def masked_class(classes: int) -> nn.Module:
    return _masked(Plain(classes), lambda images: images)


def masked_class_centred_on_the_batch(classes: int) -> nn.Module:
    return _masked(Plain(classes), lambda images: images - images.mean(0))


def masked_class_dropout(classes: int) -> nn.Module:
    return _masked(Plain(classes), lambda images: F.dropout(images, 0.2, training=True))


class Residual(Plain):
    """Its residual branch starts at zero, and so hides that it mixes the images."""

    def __init__(self, classes: int) -> None:
        super().__init__(classes)
        self.mixing = nn.BatchNorm2d(4, track_running_stats=False)
        nn.init.zeros_(self.mixing.weight)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.norm(self.stem(images)).relu()
        return self.head((maps + self.mixing(maps)).mean((2, 3)))


def zero_branch_without_running_statistics(classes: int) -> nn.Module:
    return Residual(classes)


def checkpointed(classes: int) -> nn.Module:
    return Around(Plain(classes), lambda self, images: checkpoint(self.body, images, use_reentrant=False))


def dropout_always(classes: int) -> nn.Module:
    return Around(Plain(classes), lambda self, images: self.body(F.dropout(images, 0.2, training=True)))


def dropout_of_small_logits(classes: int) -> nn.Module:
    return Around(
        Plain(classes), lambda self, images: 1e-4 * self.body(F.dropout(images, 0.2, training=True))
    )


def noise_always(classes: int) -> nn.Module:
    return Around(Plain(classes), lambda self, images: self.body(images + 0.1 * torch.randn_like(images)))


class Counting(Plain):
    """Counts the images that it has seen."""

    def __init__(self, classes: int) -> None:
        super().__init__(classes)
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, images: Tensor) -> Tensor:
        self.seen += len(images)
        return super().forward(images)


class Largest(Plain):
    """Divides by the largest value that it has seen, which is no part of its weights."""

    def __init__(self, classes: int) -> None:
        super().__init__(classes)
        self.register_buffer("largest", torch.zeros(()), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        self.largest = torch.maximum(self.largest, images.detach().max())
        return super().forward(images / self.largest)


def largest_so_far(classes: int) -> nn.Module:
    return Largest(classes)


class Positions(Plain):
    """Keeps a map of positions for the size of images that it saw last."""

    def __init__(self, classes: int) -> None:
        super().__init__(classes)
        self.register_buffer("positions", torch.zeros(1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        if self.positions.shape != images.shape[2:]:
            self.positions = torch.linspace(0, 1, images[0, 0].numel()).view(images.shape[2:])
        return super().forward(images + self.positions)


def counted_draws(classes: int) -> nn.Module:
    """As Keras' dropout, whose generator is a parameter of integers."""
    network = Plain(classes)
    network.draws = nn.Parameter(torch.zeros(2, dtype=torch.int32), requires_grad=False)
    return network


def kept_positions(classes: int) -> nn.Module:
    return Positions(classes)


def counting(classes: int) -> nn.Module:
    return Counting(classes)


def norm_of_vectors(classes: int) -> nn.Module:
    """Batch norm over vectors takes no single image in training mode."""
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.BatchNorm1d(4), nn.Linear(4, classes)
    )


def pairs_only(classes: int) -> nn.Module:
    return Around(Plain(classes), lambda self, images: self.body(images.unflatten(0, (-1, 2)).flatten(0, 1)))


def several_only(classes: int) -> nn.Module:
    def forward(self: Around, images: Tensor) -> object:
        if len(images) == 1:
            raise ValueError("a batch of one has no median")
        return self.body(images)

    return Around(Plain(classes), forward)


def fails_in_training(classes: int) -> nn.Module:
    def forward(self: Around, images: Tensor) -> object:
        return self.body(images)[:, None, :, 7] if self.training else self.body(images)

    return Around(Plain(classes), forward)


def detached_in_training(classes: int) -> nn.Module:
    def forward(self: Around, images: Tensor) -> object:
        logits = self.body(images)
        return logits.detach() + 0 * images.sum() if self.training else logits

    return Around(Plain(classes), forward)


def infinite_in_training(classes: int) -> nn.Module:
    def forward(self: Around, images: Tensor) -> object:
        return self.body(images) / (0 if self.training else 1)

    return Around(Plain(classes), forward)


def numpy_inside(classes: int) -> nn.Module:
    return Around(
        Plain(classes), lambda self, images: torch.from_numpy(self.body(images).detach().cpu().numpy())
    )


def inference_mode_inside(classes: int) -> nn.Module:
    return Around(Plain(classes), torch.inference_mode()(lambda self, images: self.body(images)))


def input_detached(classes: int) -> nn.Module:
    """As behind a JPEG: the weights have a gradient, the image has none."""
    return Around(Plain(classes), lambda self, images: self.body(images.detach()))


def not_a_number(classes: int) -> nn.Module:
    return Around(Plain(classes), lambda self, images: self.body(images) * torch.nan)


def clamped_softmax(classes: int) -> nn.Module:
    return Around(Plain(classes), lambda self, images: self.body(images).softmax(1).clamp(1e-7, 1))


def mean_of_softmaxes(classes: int) -> nn.Module:
    def forward(self: Around, images: Tensor) -> object:
        return (self.body(images).softmax(1) + self.body(images.flip(-1)).softmax(1)) / 2

    return Around(Plain(classes), forward)


def chosen_sigmoid() -> nn.Module:
    return Around(Plain(1), lambda self, images: self.body(images).sigmoid()[:, 0])


def tanh_of_sigmoid(classes: int) -> nn.Module:
    """Bounded, but no probabilities."""
    return Around(Plain(classes), lambda self, images: self.body(images).sigmoid().tanh())


class Prototypes(nn.Module):
    """No layer of torch's: distances to prototypes."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.kernel = nn.Parameter(torch.randn(4, 3, 3, 3) / 5)
        self.prototypes = nn.Parameter(torch.randn(classes, 4))

    def forward(self, images: Tensor) -> Tensor:
        return -torch.cdist(F.conv2d(images, self.kernel).relu().mean((2, 3)), self.prototypes)


def prototypes(classes: int) -> nn.Module:
    return Prototypes(classes)


class Maps(nn.Module):
    """Logit maps; in training mode those of two levels, as deep supervision wants them."""

    def __init__(self, classes: int, stacked: bool) -> None:
        super().__init__()
        self.body, self.stacked = nn.Conv2d(3, classes, 3, padding=1), stacked

    def forward(self, images: Tensor) -> object:
        maps = self.body(images)
        if not self.training:
            return maps
        return torch.stack([maps, maps / 2], 1) if self.stacked else [maps, F.avg_pool2d(maps, 2)]


def stacked_levels(classes: int) -> nn.Module:
    return Maps(classes, stacked=True)


def listed_levels(classes: int) -> nn.Module:
    return Maps(classes, stacked=False)


def map_squeezed() -> nn.Module:
    return Around(nn.Conv2d(3, 1, 3, padding=1), lambda self, images: self.body(images).squeeze())


def dict_of_maps(classes: int) -> nn.Module:
    return Around(
        nn.Conv2d(3, classes, 3, stride=2), lambda self, images: {"out": self.body(images), "aux": None}
    )


def volumetric(classes: int, channels: int = 1) -> nn.Module:
    """A segmenter of volumes, written for nothing but these."""
    return nn.Sequential(
        nn.Conv3d(channels, 8, 3, padding=1), nn.BatchNorm3d(8), nn.ReLU(), nn.Conv3d(8, classes, 1)
    )
