"""The folder of a trained network: the state to resume from, and the finished network with its card."""

import csv
import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from medrobust.errors import DamagedError, RunError
from medrobust.models import Network
from medrobust.models.weights import load_content, weights_content
from medrobust.storage import RunFolder

if TYPE_CHECKING:
    from lightning.fabric import Fabric

Epoch = dict[str, Any]
"""One row of a curve: epoch (from 1), loss, score (None without validation cases) and learning_rate;
of adversarial training also one_step and several_steps, scores under attack."""

CARD, WEIGHTS, LOG = "card.json", "weights.safetensors", "log.csv"
STATE, BEST = "last.ckpt.gz", "best.ckpt.gz"


@dataclass(frozen=True)
class TrainingFolder:
    """One network's folder in a run.

    Attributes:
        folder: The folder.
        identity: Plain data that decides the trained weights; what lies in the folder must agree with it.
    """

    folder: RunFolder
    identity: Mapping[str, Any]

    @property
    def is_finished(self) -> bool:
        """True if it holds a trained network."""
        return self.folder.exists(CARD)

    def save_state(
        self, network: Network, optimizer: torch.optim.Optimizer, curve: Sequence[Epoch], fabric: "Fabric"
    ) -> None:
        """Write what training resumes from, whole or not at all."""
        state = {"network": network.state_dict(), "optimizer": optimizer.state_dict()}
        self._save(STATE, {**state, "curve": list(curve), "identity": dict(self.identity)}, fabric)

    def restore_state(
        self, network: Network, optimizer: torch.optim.Optimizer, fabric: "Fabric"
    ) -> list[Epoch]:
        """Read what `save_state` wrote, if anything, into network and optimizer.

        Returns:
            The curve so far.

        Raises:
            RunError: It belongs to another training.
            DamagedError: It is not as it was written.
        """
        if not self.folder.exists(STATE):
            return []
        state = self._load(STATE, fabric)
        self._refuse_other(state["identity"], STATE)
        network.load_state_dict(state["network"])
        optimizer.load_state_dict(state["optimizer"])
        curve: list[Epoch] = state["curve"]
        return curve

    def save_best(self, network: Network, fabric: "Fabric") -> None:
        """Write the weights of the best epoch so far."""
        self._save(BEST, {"network": network.state_dict()}, fabric)

    def restore_best(self, network: Network, fabric: "Fabric") -> None:
        """Read what `save_best` wrote."""
        network.load_state_dict(self._load(BEST, fabric)["network"])

    def finish(self, network: Network, card: dict[str, Any]) -> None:
        """Write weights and curve, then the card, which marks them as finished; only then drop the state."""
        content = weights_content(network)
        card["weights_sha256"] = hashlib.sha256(content).hexdigest()
        curve = io.StringIO()
        table = csv.DictWriter(curve, card["curve"][0], lineterminator="\n")
        table.writeheader()
        table.writerows(card["curve"])
        self.folder.write_bytes(content, WEIGHTS)
        self.folder.write_bytes(curve.getvalue().encode(), LOG)
        self.folder.write_bytes((json.dumps(card, indent=2, ensure_ascii=False) + "\n").encode(), CARD)
        for state in (STATE, BEST):
            self.folder.remove(state)

    def load_finished(self, network: Network) -> dict[str, Any]:
        """Load the finished weights into `network`, verified; returns the card.

        Raises:
            RunError: The folder holds another training.
            DamagedError: Its weights are missing or changed.
        """
        self._refuse_other(_read_card(self.folder)["identity"], CARD)
        return load_trained(network, self.folder)

    def _refuse_other(self, found: Mapping[str, Any], file: str) -> None:
        differing = sorted(key for key in self.identity if self.identity[key] != found.get(key))
        if differing:
            raise RunError(
                f"{self.folder.path(file)} belongs to another training: {', '.join(differing)} differ. Use "
                "another run folder, or delete this one's."
            )

    def _save(self, name: str, state: dict[str, Any], fabric: "Fabric") -> None:
        if fabric.is_global_zero:
            buffer = io.BytesIO()
            torch.save(state, buffer)
            self.folder.write_sealed(buffer.getvalue(), name)
        fabric.barrier()

    def _load(self, name: str, fabric: "Fabric") -> dict[str, Any]:
        content = io.BytesIO(self.folder.read_sealed(name))
        state: dict[str, Any] = torch.load(content, map_location=fabric.device, weights_only=True)
        return state


def load_trained(network: Network, folder: RunFolder) -> dict[str, Any]:
    """Load the finished weights from a network's folder, verified, and leave the network in eval mode.

    Returns:
        The network's card.

    Raises:
        DamagedError: Card or weights are missing or changed.
    """
    card, content = verified(folder)
    load_content(network, content, folder.path(WEIGHTS))
    network.eval()
    return card


def verified(folder: RunFolder) -> tuple[dict[str, Any], bytes]:
    """The card in a network's folder, and the weights that it describes.

    Raises:
        DamagedError: Card or weights are missing or changed.
    """
    card = _read_card(folder)
    content = folder.read_bytes(WEIGHTS) if folder.exists(WEIGHTS) else b""
    if hashlib.sha256(content).hexdigest() != card.get("weights_sha256"):
        raise DamagedError(
            f"{folder.path(WEIGHTS)} does not match its card (missing or changed). Delete the folder "
            f"'{folder.path()}' to train the network again."
        )
    return card, content


def _read_card(folder: RunFolder) -> dict[str, Any]:
    try:
        card: dict[str, Any] = folder.read_json(CARD)
    except RunError as error:
        raise DamagedError(
            f"{folder.path(CARD)} cannot be read ({error}). "
            f"Delete the folder '{folder.path()}' to train the network again."
        ) from None
    return card
