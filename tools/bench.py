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
    scenes = list(ww.world.scenes("test", 500))
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
        start = time.perf_counter()
        ww.stages.read(vlm, scenes)
        print(f"{name + f': {len(scenes)} scenes, all depths, seconds':44}{time.perf_counter() - start:8.1f}")
        start = time.perf_counter()
        for scene in scenes[:25]:
            plainly(vlm, scene.image)
        print(f"{name + ': the plain way, seconds (from 25 scenes)':44}{(time.perf_counter() - start) * len(scenes) / 25:8.1f}")


@torch.no_grad()
def plainly(vlm, image):
    """Token maps without any of the lens's savings: for each depth a whole forward pass and logits at every position."""
    for depth in range(vlm.depths + 1):
        inputs = vlm.prepare(image, "")
        embeddings = vlm.embed(inputs, [each[0] for each in vlm.visual(inputs, [depth])])
        hidden = vlm.lm_hidden(embeddings, inputs["attention_mask"], vlm.position_ids(inputs))
        vlm.unembedding(vlm.final_norm(hidden)).softmax(-1).topk(5)


if __name__ == "__main__":
    main(sys.argv[1:] or ["toy-llava", "toy-qwen2vl"])
