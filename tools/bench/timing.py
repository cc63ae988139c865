"""Seconds and bytes of things that are to be compared: they take turns, so that a slow minute of
the machine is everybody's."""

import gc
import statistics
from itertools import accumulate

import torch
from tqdm import tqdm

from tools.trials.rehearse import now

MIB = 2**20


def interleaved(acts, repeats, device, name=""):
    """{what: seconds of each go} of acts {what: a function}, in turns, and every round begins with
    another."""
    took = {what: [] for what in acts}
    order = list(acts)
    for n in tqdm(range(repeats), desc=name, leave=False):
        for what in order[n % len(order) :] + order[: n % len(order)]:
            start = now(device)
            acts[what]()
            took[what].append(now(device) - start)
    return took


def ratio(slow, fast):
    """How many times as fast, round by round: {"times": the median, "least", "most"}."""
    each = [a / b for a, b in zip(slow, fast)]
    return {"times": statistics.median(each), "least": min(each), "most": max(each)}


def peak(act, device):
    """The most memory that tensors hold while `act()` runs, above what they held before, in MiB.

    On a CPU every allocation of PyTorch's is noted and summed: what the process has resident says
    little where the system takes memory away from it that it has not used for a while.
    """
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        act()
        return (torch.cuda.max_memory_allocated(device) - before) / MIB
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
    ) as noted:
        act()
    events = [each for each in noted.profiler.kineto_results.events() if each.name() == "[memory]"]
    sizes = [each.nbytes() for each in sorted(events, key=lambda each: each.start_ns())]
    return max(accumulate(sizes), default=0) / MIB
