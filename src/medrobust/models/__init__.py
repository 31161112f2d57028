"""Networks: the catalogue, what a study says about one, and how it becomes a `Network`."""

from medrobust.models.architectures import MODELS, Architecture, find
from medrobust.models.build import build
from medrobust.models.check import check_network, has_gradient, have_same_features, say_the_same
from medrobust.models.form import InputSpec, OutputSpec, WeightsSpec, numbers_of
from medrobust.models.network import Ensemble, Network, Told, parameter_count, prepare, to_channels_last
from medrobust.models.spec import ModelSpec, as_written, copy_of, model_spec, recipe
from medrobust.models.weights import load_weights, weights_content, weights_sha256

__all__ = [
    "MODELS",
    "Architecture",
    "Ensemble",
    "InputSpec",
    "ModelSpec",
    "Network",
    "OutputSpec",
    "Told",
    "WeightsSpec",
    "as_written",
    "build",
    "check_network",
    "copy_of",
    "find",
    "has_gradient",
    "have_same_features",
    "load_weights",
    "model_spec",
    "numbers_of",
    "parameter_count",
    "prepare",
    "recipe",
    "say_the_same",
    "to_channels_last",
    "weights_content",
    "weights_sha256",
]
