"""Another processor on this one: what comes of a sum or of a curve is moved by as little as another
order of summation moves it.

    WHATWHERE_LAST_BITS=1 python -m pytest tests/test_towers.py  # set, the tests start in this mode
    python -m tools.trials.steady --trials "last bits"  # and so do the chapters' kernels

Processors agree on +, ×, ÷ and √ to the last bit. They differ in the order in which the terms of a
dot product, a mean or a norm are added, and in the polynomials of exp, sin and their like. Here
each number that such an operation returns is moved by up to one unit in its last place; for sums,
in the last place of its row's typical size, since a sum whose terms cancel keeps their rounding
errors. As on a real processor, the same operation on tensors of the same shape moves them alike, so
the same computation gives the same bits twice, and one with another batch size does not. Whole
numbers stay, since their sums are exact on any processor, and so do zeros, such as those of a
masked softmax.
"""

import os
import zlib

import torch
from torch.utils._python_dispatch import TorchDispatchMode

AMPLITUDE = "WHATWHERE_LAST_BITS"
# operations whose last bit is a processor's own, and what autograd calls for them; in
# inference_mode composite ones come here too
SUMS = (
    "mm addmm bmm baddbmm mv addmv dot vdot linear matmul einsum _addmm_activation convolution "
    "conv1d conv2d conv3d convolution_backward linear_backward matmul_backward sum mean var "
    "var_mean std cumsum logsumexp prod norm linalg_vector_norm linalg_norm _euclidean_dist "
    "_cdist_forward cosine_similarity layer_norm native_layer_norm native_layer_norm_backward "
    "_fused_rms_norm rms_norm native_group_norm softmax _softmax _softmax_backward_data "
    "log_softmax _log_softmax _log_softmax_backward_data _safe_softmax "
    "scaled_dot_product_attention _scaled_dot_product_flash_attention_for_cpu "
    "_scaled_dot_product_flash_attention_for_cpu_backward _scaled_dot_product_attention_math "
    "embedding_dense_backward nll_loss cross_entropy_loss kl_div mse_loss avg_pool2d "
    "adaptive_avg_pool2d _adaptive_avg_pool2d upsample_bilinear2d upsample_bicubic2d "
    "_upsample_bilinear2d_aa _upsample_bicubic2d_aa "
)
CURVES = (
    "exp log log2 log10 log1p expm1 sin cos tan tanh sigmoid erf erfinv pow rsqrt gelu "
    "gelu_backward silu silu_backward atan2 acos asin softplus log_sigmoid_forward polar "
    "sigmoid_backward tanh_backward"
)
DRAWS = "normal randn randn_like exponential"  # by logarithms and cosines
ONE_BY_ONE = frozenset(f"{CURVES} {DRAWS}".split())  # a number each for a number
INEXACT = ONE_BY_ONE | frozenset(SUMS.split())
NOISE = torch.rand(1 << 20, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 2 - 1
# half a precision rounds most last bits of the sums behind it away: only so many of its numbers in
# twenty move
RARE = 0.95


class LastBits(TorchDispatchMode):
    """With this entered, results of `INEXACT` operations are moved by up to `amplitude` units of
    their row's last place."""

    def __init__(self, amplitude=1.0):
        super().__init__()
        self.amplitude = amplitude

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        found = operation(*args, **(kwargs or {}))
        name = operation._schema.name.removeprefix("aten::")
        if name.endswith("_") and name[:-1] in INEXACT:  # in place
            return found.copy_(self.moved(found, name))
        if name not in INEXACT or operation._overloadname == "out":
            return found
        if isinstance(found, tuple):
            return tuple(self.moved(each, name) for each in found)
        return self.moved(found, name)

    def moved(self, found, name):
        if not (
            isinstance(found, torch.Tensor)
            and found.is_floating_point()
            and found.device.type == "cpu"
            and found.numel()
        ):
            return found
        finite = found if found.isfinite().all() else torch.where(found.isfinite(), found, 0)
        if (finite == finite.round()).all():
            return found
        alone = not found.dim() or name.removesuffix("_") in ONE_BY_ONE
        size = (
            finite.abs()
            if alone
            else torch.linalg.vector_norm(finite, dim=-1, keepdim=True) / found.shape[-1] ** 0.5
        )
        start, count = (
            zlib.crc32(f"{name} {tuple(found.shape)}".encode()) % (len(NOISE) // 2),
            found.numel(),
        )
        noise = (
            NOISE[start : start + count]
            if start + count <= len(NOISE)
            else NOISE.repeat(1 + count // len(NOISE))[:count]
        )
        if found.dtype in (torch.float16, torch.bfloat16):
            noise = torch.where(noise.abs() > RARE, noise.sign(), 0)
        step = (
            self.amplitude
            * torch.finfo(found.dtype).eps
            * size
            * noise.to(found.dtype).reshape(found.shape)
        )
        return torch.where(found == 0, found, found + step)


def begin():
    """Enter the mode for the rest of this thread where the environment asks for it. Returns the
    mode, or None."""
    if float(os.environ.get(AMPLITUDE) or 0):
        return LastBits(float(os.environ[AMPLITUDE])).__enter__()


if "get_ipython" in globals():  # a kernel that has this among its first files
    begin()
