"""The folder of a trained network: the state to go on from, and the finished network with its card."""

import csv
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from medrobust.errors import RunError
from medrobust.models import Network, load_weights, save_weights

if TYPE_CHECKING:
    from lightning.fabric import Fabric

Epoch = dict[str, Any]
"""One row of a curve: epoch (from 1), loss, score (None without validation cases) and learning_rate."""


@dataclass(frozen=True)
class TrainingFolder:
    """One network's folder in a run.

    Attributes:
        path: The folder.
        identity: Plain data that decides the trained weights; what lies in the folder must agree with it.
    """

    path: Path
    identity: Mapping[str, Any]

    @property
    def is_finished(self) -> bool:
        """True if it holds a trained network."""
        return (self.path / "card.json").exists()

    def save_state(
        self,
        network: torch.nn.Module,
        optimizer: torch.optim.Optimizer,
        curve: Sequence[Epoch],
        fabric: "Fabric",
    ) -> None:
        """Write what training goes on from, whole or not at all."""
        state = {"network": network, "optimizer": optimizer, "curve": curve, "identity": self.identity}
        _save(fabric, self.path / "last.ckpt", state)

    def restore_state(
        self, network: Network, optimizer: torch.optim.Optimizer, fabric: "Fabric"
    ) -> list[Epoch]:
        """Read what `save_state` wrote, if anything, into network and optimizer.

        Returns:
            The curve so far.

        Raises:
            RunError: It belongs to another training.
        """
        if not (self.path / "last.ckpt").exists():
            return []
        state = fabric.load(self.path / "last.ckpt", weights_only=True)
        self._refuse_other(state["identity"], "last.ckpt")
        network.load_state_dict(state["network"])
        optimizer.load_state_dict(state["optimizer"])
        curve: list[Epoch] = state["curve"]
        return curve

    def save_best(self, network: torch.nn.Module, fabric: "Fabric") -> None:
        """Write the weights of the best epoch so far."""
        _save(fabric, self.path / "best.ckpt", {"network": network})

    def restore_best(self, network: Network, fabric: "Fabric") -> None:
        """Read what `save_best` wrote."""
        network.load_state_dict(fabric.load(self.path / "best.ckpt", weights_only=True)["network"])

    def finish(self, network: Network, card: dict[str, Any]) -> None:
        """Write weights and curve, then the card, which marks them as finished; only then drop the state."""
        card["weights_sha256"] = save_weights(network, self.path / "weights.safetensors")
        with (self.path / "log.csv").open("w", encoding="utf-8", newline="") as stream:
            table = csv.DictWriter(stream, ["epoch", "loss", "score", "learning_rate"], lineterminator="\n")
            table.writeheader()
            table.writerows(card["curve"])
        part = self.path / "card.json.part"
        part.write_text(json.dumps(card, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        part.replace(self.path / "card.json")
        for state in ("last.ckpt", "best.ckpt"):
            (self.path / state).unlink(missing_ok=True)

    def load_finished(self, network: Network) -> dict[str, Any]:
        """Load the finished weights into `network`, verified; returns the card.

        Raises:
            RunError: The folder holds another training, or its weights are missing or changed.
        """
        card = _read_card(self.path)
        self._refuse_other(card["identity"], "card.json")
        load_trained(network, self.path)
        return card

    def _refuse_other(self, found: Mapping[str, Any], file: str) -> None:
        differing = sorted(key for key in self.identity if self.identity[key] != found.get(key))
        if differing:
            raise RunError(
                f"{self.path / file} is of another training: {', '.join(differing)} differ. "
                "Use another run folder, or delete this one's."
            )


def load_trained(network: Network, path: Path) -> None:
    """Load the finished weights of a network's folder, verified, and leave the network in eval mode.

    Raises:
        RunError: Card or weights are missing or changed.
    """
    file = path / "weights.safetensors"
    content = file.read_bytes() if file.exists() else b""
    if hashlib.sha256(content).hexdigest() != _read_card(path)["weights_sha256"]:
        raise RunError(
            f"{file} is not what its card says (missing or changed). "
            f"Delete the folder '{path}' to train the network again."
        )
    load_weights(network, file)
    network.eval()


def _read_card(path: Path) -> dict[str, Any]:
    try:
        card: dict[str, Any] = json.loads((path / "card.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(
            f"{path / 'card.json'} cannot be read ({error}). "
            f"Delete the folder '{path}' to train the network again."
        ) from None
    return card


def _save(fabric: "Fabric", path: Path, state: dict[str, Any]) -> None:
    part = path.with_name(path.name + ".part")
    fabric.save(part, state)
    if fabric.is_global_zero:
        part.replace(path)
    fabric.barrier()
