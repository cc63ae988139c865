"""Our models, scaled or compressed, in lmms-eval, the field's own engine; and the spatial
benchmarks that it lacks.

    pip install 'whatwhere[lmms]'  # in an environment of its own: it brings much else
    lmms-eval --model whatwhere --model_args pretrained=Qwen/Qwen2-VL-2B-Instruct,alpha=99,p=8 \\
              --tasks whatsup_b,pope,gqa --include_path "$(whatwhere tasks)" --batch_size 8

It finds this plug-in by itself, through the entry point `lmms_eval.models`.
"""

from contextlib import nullcontext
from typing import Any

import torch
from lmms_eval.api.model import lmms  # pyright: ignore[reportMissingImports]
from lmms_eval.models.registry_v2 import ModelManifest  # pyright: ignore[reportMissingImports]

from .. import benchmarks, compress, loading, rope
from ..benchmarks import conditions
from ..benchmarks.running import Runner
from ..processes import Processes

MANIFEST = ModelManifest(model_id="whatwhere", simple_class_path="whatwhere.lmms.WhatWhere")
ALONE = Processes(0, 1, None)


class WhatWhere(lmms):
    """What `--model whatwhere` is.

    Args:
        pretrained, device, dtype, revision, max_pixels: what `loading.load` takes.
        alpha, p: RoPE scaling.
        method, decoder, keep: compression, what `compress.compressed` takes.
        depth, without_positions, shuffle, image_attention, seed: what `benchmarks.run` takes;
            blocks as "1-3+6", since lmms-eval cuts at commas.
        batch_size: questions at once.
    """

    def __init__(
        self,
        pretrained: str,
        batch_size: int = 1,
        device: str = "auto",
        dtype: str = "auto",
        revision: str | None = None,
        alpha: float | None = None,
        p: float | None = None,
        method: str | int | None = None,
        decoder: str | None = None,
        keep: int | float | None = None,
        depth: int | None = None,
        without_positions: str | int | None = None,
        shuffle: str | None = None,
        image_attention: str | None = None,
        seed: int = 0,
        max_batch_size: int | None = None,
        max_pixels: int | str | None = "auto",
    ):
        super().__init__()
        if (alpha is None) != (p is None):
            raise ValueError(
                "RoPE scaling takes alpha and p: --model_args pretrained=…,alpha=99,p=8"
            )
        self.conditions = conditions.checked(
            depth, without_positions, shuffle, image_attention, method
        )
        mine = benchmarks.processes()
        self._rank, self._world_size = mine.rank, mine.count
        self.vlm = loading.load(pretrained, mine.device or device, dtype, revision, max_pixels)
        self.scale = None if alpha is None or p is None else (alpha, p)
        self.batch_size, self.seed = int(batch_size), int(seed)
        self.how = None
        if method is not None:
            self.how = {
                "which": method,
                "decoder": decoder and compress.load_decoder(decoder, self.vlm),
                "keep": keep,
            }
        if mine.count > 1:
            from accelerate import Accelerator

            self.accelerator = Accelerator()

    @property
    def device(self) -> torch.device:
        return self.vlm.device

    def generate_until(self, requests: list[Any]) -> list[str]:
        """The answers to `requests`, in their order: greedy, up to the task's number of tokens and
        stopping words."""
        answers, alike = [""] * len(requests), {}
        for n, request in enumerate(requests):
            question, settings, to_pictures, number, task, split = request.args
            pictures = to_pictures(self.task_dict[task][split][number])
            if len(pictures) != 1 or isinstance(pictures[0], str):
                raise ValueError(
                    f"whatwhere shows one picture at a time; question {number} of {task} has "
                    f"{len(pictures)}."
                )
            item = benchmarks.Item(str(n), pictures[0], question, "word", "")
            alike.setdefault(int(settings.get("max_new_tokens", 1024)), []).append(
                (item, settings.get("until", []))
            )
        with (
            rope.scaled(self.vlm, *self.scale) if self.scale else nullcontext(),
            conditions.set_on(self.vlm, self.conditions, self.seed),
        ):
            for words, asked in alike.items():
                runner = Runner(
                    self.vlm, [item for item, _ in asked], self.batch_size, words, self.how
                )
                for row, (_, until) in zip(runner.run(None, ALONE), asked):
                    answers[int(row["id"])] = _cut(
                        row["answer"], [until] if isinstance(until, str) else until
                    )
        return answers

    def loglikelihood(self, requests: list[Any]) -> list[Any]:
        raise NotImplementedError(
            "whatwhere answers in words; it gives no likelihoods to lmms-eval."
        )

    def generate_until_multi_round(self, requests: list[Any]) -> list[Any]:
        raise NotImplementedError(
            "whatwhere answers one question at a time; it takes no conversations."
        )


def _cut(answer, until):
    for stop in until:
        if stop:
            answer = answer.split(stop)[0]
    return answer.strip()
