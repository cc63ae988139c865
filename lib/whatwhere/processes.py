"""Several processes at one piece of work, as `accelerate launch` and torchrun start them."""

import os
from typing import NamedTuple

import torch


class Processes(NamedTuple):
    """Which of how many processes this is, and the device that is its own (None: any)."""

    rank: int
    count: int
    device: str | None


def processes() -> Processes:
    """What `accelerate launch` or torchrun made of this process, by the variables that they set;
    one of one without them."""
    count, local_rank = int(os.environ.get("WORLD_SIZE", 1)), os.environ.get("LOCAL_RANK", 0)
    device = f"cuda:{local_rank}" if count > 1 and torch.cuda.is_available() else None
    return Processes(int(os.environ.get("RANK", 0)), count, device)
