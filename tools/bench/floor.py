"""The least that token maps at all depths can cost: multiplications and bytes that no exact method
can do without.

Each ViT block once, the connector and the LM up to the layer that is read for every depth, what
stands before the picture in the prompt once, and the logits of visual tokens. Only products of
matrices are counted, two operations for a product and its sum, and attention looks back only in the
LM. A distance from this floor has two parts: products of a few hundred rows are slower than the
large one by which the machine's speed is measured (`Products` does them alone), and norms,
activations, softmax, memory and the sorting out of the best words come on top.
"""

import time

import torch
from torch.utils._python_dispatch import TorchDispatchMode

STAGES = ("ViT", "connector", "LM", "logits")


def operations(asked):
    """{stage: floating-point operations} of `ways.Asked`."""
    vlm, n = asked.vlm, len(asked.depths)
    rows, columns = vlm.patch_grid(asked.image)
    tokens = rows * columns
    patches = tokens * vlm.adapter.merge**2 + (vlm.family == "llava")  # CLIP's class token
    before = int(asked.prepared()[1][0])
    blocks, layers = vlm.vision_blocks[: max(asked.depths)], vlm.lm_layers[: asked.layer]
    width = vlm.unembedding.weight.shape[1]
    sight = vlm.model.config.vision_config
    seeing = getattr(sight, "embed_dim", None) or sight.hidden_size
    # who looks at whom
    pairs = n * (tokens * (tokens + 1) / 2 + tokens * before) + before * (before + 1) / 2
    embedding = next(
        each
        for each in vlm.adapter.vision.modules()
        if isinstance(each, (torch.nn.Conv2d, torch.nn.Conv3d))
    )
    return {
        "ViT": 2 * patches * (_matrices(blocks) + embedding.weight.numel())
        + 4 * len(blocks) * patches**2 * seeing,
        "connector": 2 * n * tokens * _matrices(vlm.connector),
        "LM": 2 * (n * tokens + before) * _matrices(layers) + 4 * len(layers) * pairs * width,
        "logits": 2 * n * tokens * vlm.unembedding.weight.numel(),
    }


def numbers(asked):
    """{stage: bytes} of the weights, each read once."""
    vlm = asked.vlm
    parts = (
        vlm.vision_blocks[: max(asked.depths)],
        vlm.connector,
        vlm.lm_layers[: asked.layer],
        vlm.unembedding,
    )
    return {
        stage: sum(each.numel() * each.element_size() for each in part.parameters())
        for stage, part in zip(STAGES, parts)
    }


def _matrices(module):
    """How many numbers its matrices hold."""
    return sum(each.numel() for each in module.parameters() if each.ndim == 2)


class Machine:
    """What this machine does at its best: operations a second in a product of large matrices, and
    bytes a second in a copy."""

    def __init__(self, device, dtype, size=2048):
        self.a, self.b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
        self.flat = torch.ones(2**26, device=device)  # 256 MiB, more than any cache

    def multiply(self):
        """One such product."""
        return self.a @ self.b

    @property
    def operations(self):
        return 2 * len(self.a) ** 3

    def bandwidth(self, now=time.perf_counter):
        """Bytes a second, read and written: the best of five copies."""
        other, took = torch.empty_like(self.flat), []
        for _ in range(5):
            start = now()
            other.copy_(self.flat)
            took.append(now() - start)
        return 2 * self.flat.numel() * self.flat.element_size() / min(took)


class Products(TorchDispatchMode):
    """Notes every product of matrices under it; `again()` does them once more and nothing else: the
    same shapes, the same weights, random numbers for states."""

    KINDS = (
        *(getattr(torch.ops.aten, name) for name in ("mm", "addmm", "bmm", "baddbmm")),
        torch.ops.aten.convolution,
        torch.ops.aten._scaled_dot_product_flash_attention_for_cpu,
        torch.ops.aten._scaled_dot_product_flash_attention,
        torch.ops.aten._scaled_dot_product_efficient_attention,
    )

    def __init__(self, module):
        super().__init__()
        self.weights = {each.untyped_storage().data_ptr() for each in module.parameters()}
        self.noted, self.states = [], {}

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function.overloadpacket in self.KINDS:
            self.noted.append((function, [self._kept(each) for each in args], kwargs or {}))
        return function(*args, **(kwargs or {}))

    def _kept(self, given):
        """Weights as they are, and one tensor of random numbers for all states of one shape."""
        if not torch.is_tensor(given) or given.untyped_storage().data_ptr() in self.weights:
            return given
        key = given.shape, given.stride(), given.dtype
        if key not in self.states:
            self.states[key] = torch.empty_strided(*key[:2], dtype=given.dtype, device=given.device)
            self.states[key].normal_()
        return self.states[key]

    def again(self):
        for function, args, named in self.noted:
            function(*args, **named)


def seconds(asked, rate, bandwidth):
    """{stage: seconds}: of multiplying at `rate` or of fetching the weights, whichever is
    longer."""
    doing, fetching = operations(asked), numbers(asked)
    return {stage: max(doing[stage] / rate, fetching[stage] / bandwidth) for stage in STAGES}
