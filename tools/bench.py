"""Time the book's own machinery on this machine: drawing scenes, answering questions, making token maps.

python tools/bench.py [model …]        # the two organisms unless told otherwise
"""

import platform
import statistics
import sys
import time

import torch

import whatwhere as ww


def rate(act, seconds=3.0):
    """How often act(n) runs in a second, n counting up from 0: the median of three goes."""
    act(0)
    goes = []
    for _ in range(3):
        start, count = time.perf_counter(), 0
        while time.perf_counter() - start < seconds / 3:
            count += 1
            act(count)
        goes.append(count / (time.perf_counter() - start))
    return statistics.median(goes)


def main(names):
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor() or platform.machine()
    print(f"{device}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    print(f"{'scenes drawn a second':44}{rate(lambda n: ww.world.scene(seed=n).image):8.0f}")
    pictures = [ww.world.scene(seed=n).image for n in range(16)]
    for name in names:
        start = time.perf_counter()
        try:
            vlm = ww.load(name)
        except (FileNotFoundError, ValueError) as error:
            print(f"{name}: {error}")
            continue
        print(f"{name + ': seconds to load':44}{time.perf_counter() - start:8.2f}")
        answers = rate(lambda n, vlm=vlm: vlm.answer(pictures[n % 16], "is there a mug ?"))
        print(f"{name + ': answers a second, one at a time':44}{answers:8.1f}")
        maps = rate(lambda n, vlm=vlm: ww.lens.token_maps(vlm, pictures[n % 16]))
        print(f"{name + ': token maps a second, all depths':44}{maps:8.1f}")


if __name__ == "__main__":
    main(sys.argv[1:] or ["toy-llava", "toy-qwen2vl"])
