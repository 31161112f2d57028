"""The processes that train one network together, which Lightning's Fabric starts or finds."""

import multiprocessing
import os
from collections.abc import Callable
from pickle import PicklingError
from typing import TYPE_CHECKING, TypeVar

import torch

from medrobust.errors import MedrobustError, RunError, StudyError, reason
from medrobust.models import Network
from medrobust.study.training import TrainingConfig

if TYPE_CHECKING:
    from lightning.fabric import Fabric

Result = TypeVar("Result")


def starts_processes(config: TrainingConfig) -> bool:
    """True where a training starts processes of its own; on several nodes a launcher has started them."""
    return config.devices > 1 and config.nodes == 1


def launched(
    work: Callable[..., Result],
    network: Network,
    *,
    device: torch.device,
    config: TrainingConfig,
) -> Result:
    """Do some work in every process of a training, and give what it gives in the first.

    The work is called with the Fabric and the network. Where processes are started, both must be picklable,
    and each process gets a copy of the network and a device of this kind.

    Raises:
        RunError: A process failed.
        StudyError: The data or the network cannot be sent to processes.
    """
    fabric = make_fabric(device, config)
    if not starts_processes(config):
        fabric.launch()
        return work(fabric, network)
    from torch.multiprocessing.spawn import ProcessException

    others = multiprocessing.active_children()
    try:
        result: Result = fabric.launch(work, network)
    except ProcessException as error:
        last_line = str(error).strip().rsplit("\n", 1)[-1]  # of the whole traceback
        cause = last_line.removeprefix(f"{MedrobustError.__module__}.")
        raise RunError(f"A training process failed: {cause}") from error
    except (AttributeError, TypeError, PicklingError) as error:  # nothing else is done in this process
        raise StudyError(
            f"training.devices: the data and the network are sent to {config.devices} processes, which fails "
            f"({reason(error)}). Define their functions and classes at the top of a module."
        ) from error
    finally:
        for process in multiprocessing.active_children():
            if process not in others:
                process.terminate()
    return result


def make_fabric(device: torch.device, config: TrainingConfig) -> "Fabric":
    """Lightning's Fabric on one device, or on several of its kind."""
    from lightning.fabric import Fabric
    from lightning.fabric.strategies.ddp import DDPStrategy

    several = config.devices * config.nodes > 1
    ddp = DDPStrategy(
        start_method="spawn" if starts_processes(config) else "popen",
        find_unused_parameters=config.strategy == "ddp_find_unused_parameters_true",
    )
    return Fabric(
        accelerator=device.type,
        strategy=ddp if several else "auto",
        devices=config.devices if several or device.type == "cpu" else [device.index or 0],
        num_nodes=config.nodes,
        precision="32-true" if config.precision == 32 else config.precision,
    )


def global_rank() -> int:
    """Number of this process among all that torchrun or SLURM started; 0 without any of them."""
    return int(os.environ.get("RANK") or os.environ.get("SLURM_PROCID") or 0)


def meet(device: torch.device, config: TrainingConfig) -> None:
    """Wait for all processes of a training on several nodes; see `require_launcher`."""
    fabric = make_fabric(device, config)
    fabric.launch()
    fabric.barrier()


def require_launcher(config: TrainingConfig) -> None:
    """See that a training on several nodes was started on all of them; else it would wait forever.

    Raises:
        StudyError: It was not.
    """
    wanted = config.nodes * config.devices
    found = int(os.environ.get("WORLD_SIZE") or os.environ.get("SLURM_NTASKS") or 1)
    if config.nodes > 1 and found != wanted:
        raise StudyError(
            f"training.nodes: {config.nodes} nodes with {config.devices} devices each are {wanted} "
            f"processes, which torchrun or srun must start; got {found}. See docs/scale.md."
        )
