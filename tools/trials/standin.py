"""A stand-in for CUDA on a machine without a GPU: what is put on "cuda" is computed on the CPU, and
treated as CUDA treats it.

    with standin.cuda():
        vlm = ww.load("toy-llava")           # it takes the GPU by itself; vlm.device is cuda:0
        vlm.logits(image, question).numpy()  # TypeError: can't convert cuda:0 …

A tensor is "on the GPU" if its storage is marked; so are all views of it, parameters that wrap it,
and whatever is computed from it. Refused, with the words of CUDA: numpy, tensors of both devices in
one call (a number, a tensor without dimensions, may come from the CPU where CUDA allows it), an
index on the GPU into a tensor on the CPU, a generator of the other device. Allowed: `.cpu()`,
`.to(…)`, `.item()`, `.tolist()`, copying into slices, an index on the CPU into a tensor on the GPU.
`tests/test_standin.py` holds the table. Random numbers drawn on the GPU are others than the CPU's,
as they are on a real one.

Products in bfloat16 are computed in float32 and rounded once, as a GPU does it, and many times
faster than most CPUs.

What it cannot show: other rounding (TF32 in convolutions, other orders of summation, other
attention kernels), asynchronous errors, memory and speed. `whatwhere check` shows these on a real
GPU. It works in the thread that entered it.
"""

from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from unittest import mock

import torch
from torch.overrides import TorchFunctionMode

GPU, CPU = torch.device("cuda:0"), torch.device("cpu")
Tensor = torch.Tensor


def on_gpu(tensor):
    """Is it marked? Tensors without storage of their own (meta, inside vmap) are not."""
    try:
        return tensor.device.type == "cpu" and hasattr(tensor.untyped_storage(), "stands_on_gpu")
    except (NotImplementedError, RuntimeError):
        return False


def _mark(tensor):
    tensor.untyped_storage().stands_on_gpu = True
    return tensor


def _tensors(values):
    """All tensors in nested lists, tuples and dictionaries."""
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from _tensors(value)
        elif isinstance(value, dict):
            yield from _tensors(value.values())


def _placed(result, gpu, given):
    """What a call returns, all of it on the GPU or on the CPU; a tensor that was `given`, or a view
    of one, stays where it is."""
    if isinstance(result, Tensor):
        if result.device.type != "cpu" or on_gpu(result) == gpu:
            return result
        try:
            storage = result.untyped_storage()._cdata
        except (NotImplementedError, RuntimeError):
            return result
        if any(
            each.device.type == "cpu" and each.untyped_storage()._cdata == storage for each in given
        ):
            return result
        return _mark(result)
    if type(result) in (list, tuple):
        return type(result)(_placed(each, gpu, given) for each in result)
    if isinstance(result, tuple):  # named, such as what topk returns
        for each in result:
            _placed(each, gpu, given)
    return result


def _apart(found):
    return RuntimeError(
        f"Expected all tensors to be on the same device, but found at least two devices, {found}!"
    )


def _getters(*names):
    return {getattr(Tensor, name).__get__: name for name in names}


def _methods(*names):
    """The functions of these names in torch, torch.nn.functional and among a tensor's methods."""
    homes = (Tensor, torch, torch.nn.functional)
    return {getattr(home, name) for home in homes for name in names if hasattr(home, name)}


GETTERS = _getters("device", "is_cuda", "is_cpu")
TO_NUMPY = {Tensor.numpy, Tensor.__array__}
MOVED = _methods("to", "cpu", "cuda", "type_as")
# tensors of both devices may meet here: copies, and questions that are no computation
MEET = _methods(
    "copy_", "expand_as", "view_as", "reshape_as", "result_type", "can_cast", "is_same_size",
    "is_set_to", "set_", "swap_tensors", "broadcast_tensors", "_has_compatible_shallow_copy_type",
) | {Tensor.data.__set__, Tensor.grad.__set__}  # fmt: skip
# and here not even a number may come from the CPU
STRICT = _methods(
    "cat", "concat", "concatenate", "stack", "hstack", "vstack", "dstack", "mm", "bmm", "matmul",
    "mv", "dot", "addmm", "baddbmm", "__matmul__", "__rmatmul__", "linear", "embedding", "gather",
    "scatter", "scatter_", "scatter_add", "scatter_add_", "index_select", "index_add", "index_add_",
    "index_copy_", "take_along_dim", "einsum", "tensordot", "masked_select",
    "masked_scatter", "masked_scatter_", "bincount", "equal", "repeat_interleave", "meshgrid",
)  # fmt: skip
INDEXED = _methods("__getitem__", "__setitem__", "index_put", "index_put_")
LIKE = _methods(*(name for name in dir(torch) if name.endswith("_like")))
DRAWN = _methods(
    "rand",
    "randn",
    "randint",
    "randperm",
    "normal",
    "multinomial",
    "bernoulli",
    "normal_",
    "uniform_",
    "random_",
    "bernoulli_",
    "exponential_",
    "cauchy_",
    "log_normal_",
    "geometric_",
    "poisson",
)

PRODUCTS = _methods(
    "linear",
    "matmul",
    "__matmul__",
    "__rmatmul__",
    "mm",
    "bmm",
    "addmm",
    "baddbmm",
    "einsum",
    "conv1d",
    "conv2d",
    "conv3d",
    "scaled_dot_product_attention",
)


def _in_float32(function, args, kwargs):
    """The product of bfloat16 numbers, rounded to bfloat16 when it is done."""

    def wide(value):
        if isinstance(value, Tensor):
            return value.float() if value.dtype == torch.bfloat16 else value
        if isinstance(value, (list, tuple)):
            return type(value)(wide(each) for each in value)
        return value

    return function(
        *map(wide, args), **{name: wide(value) for name, value in kwargs.items()}
    ).bfloat16()


class _AnyGenerator(type(torch._C.Generator)):
    def __instancecheck__(cls, each):
        return isinstance(each, torch._C.Generator)


class Generator(torch._C.Generator, metaclass=_AnyGenerator):
    """In the place of `torch.Generator`; one made for CUDA gives its device as CUDA's does."""

    device = GPU

    def __new__(cls, device="cpu"):
        return super().__new__(cls, "cpu") if _is_gpu(device) else torch._C.Generator(device)


class _Mode(TorchFunctionMode):
    def __init__(self):
        super().__init__()
        self.generator = Generator("cuda")
        self.seed(torch.initial_seed())

    def seed(self, seed):
        """`torch.manual_seed` comes here as well."""
        self.generator.manual_seed((seed + 1) % 2**32)  # not the CPU's own numbers

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if function in GETTERS:
            return self._get(GETTERS[function], args[0])
        if function in MOVED:
            return self._moved(function, *args, **kwargs)
        given = list(_tensors((args, kwargs)))
        on = [on_gpu(each) for each in given]
        if (
            function in TO_NUMPY
            and on[0]
            and not (kwargs.get("force") or args[1:2] == (True,) and function is Tensor.numpy)
        ):
            raise TypeError(
                "can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() to copy the "
                "tensor to host memory first."
            )
        if function is Tensor.get_device:
            return 0 if on[0] else -1
        gpu, asked = any(on), kwargs.get("device")
        # numbers are taken out of a list
        if function in (torch.tensor, torch.as_tensor) and not isinstance(args[0], Tensor):
            gpu = False
        elif function in INDEXED:
            gpu = on[0]
            self._check_index(function, args, given)
        elif function not in MEET:
            self._check_one_device(function, given, on)
        if asked is not None:
            gpu = _is_gpu(asked)
            kwargs["device"] = CPU if gpu else asked
        if function in DRAWN or kwargs.get("generator") is not None:
            self._check_generator(function, gpu, kwargs)
        elif function in MEET and given:
            gpu = on[0]
        if gpu and function in PRODUCTS and given[0].dtype == torch.bfloat16:
            result = _in_float32(function, args, kwargs)
        else:
            result = function(*args, **kwargs)
        if asked is not None and not gpu:  # what was on the GPU and is asked for on the CPU: a copy
            return result.clone() if isinstance(result, Tensor) and on_gpu(result) else result
        if function is Tensor.grad.__get__ and result is not None and on[0]:
            return _mark(result)
        if asked is not None and gpu and isinstance(result, Tensor) and not on_gpu(result):
            shared = any(
                result.untyped_storage()._cdata == each.untyped_storage()._cdata for each in given
            )
            return _mark(result.clone() if shared else result)
        return _placed(result, True, given) if gpu else result

    @staticmethod
    def _get(name, tensor):
        gpu = on_gpu(tensor)
        if name == "device":
            return GPU if gpu else tensor.device
        return gpu if name == "is_cuda" else tensor.is_cpu and not gpu

    @staticmethod
    def _moved(function, tensor, *args, **kwargs):
        """`to` in all its forms, `cpu`, `cuda` and `type_as`: a copy, where the device changes."""
        here = there = on_gpu(tensor)
        copy, dtype = kwargs.pop("copy", False), None
        if function in (Tensor.cpu, Tensor.cuda):
            there = function is Tensor.cuda
        elif isinstance(other := kwargs.get("other", args[0] if args else None), Tensor):
            there, dtype = on_gpu(other), other.dtype
            if other.device.type != "cpu":
                return function(tensor, *args, **kwargs)
        else:
            # to(device, dtype, non_blocking, copy)
            if args and isinstance(args[-1], bool) and len(args) > 2:
                copy, args = args[-1] if len(args) == 4 else copy, args[:3]
            if args and type(args[0]) is int:  # the number of a GPU
                args = (GPU, *args[1:])
            device, dtype, *_ = torch._C._nn._parse_to(*args, **kwargs)
            if (
                device is not None
                and device.type not in ("cpu", "cuda")
                or tensor.device.type != "cpu"
            ):
                return tensor.to(CPU if device and device.type == "cuda" else device, dtype)
            there = here if device is None else device.type == "cuda"
        result = tensor.to(dtype or tensor.dtype, copy=copy or here != there)
        return _mark(result) if there and not on_gpu(result) else result

    @staticmethod
    def _check_one_device(function, given, on):
        if not any(on) or all(on):
            return
        numbers = function not in STRICT
        for each, gpu in zip(given, on):
            if not gpu and each.device.type == "cpu" and not (numbers and each.ndim == 0):
                raise _apart("cuda:0 and cpu" if on[0] else "cpu and cuda:0")

    @staticmethod
    def _check_index(function, args, given):
        self, index, *value = args
        parts = list(_tensors([index]))
        if not on_gpu(self) and any(on_gpu(each) and each.ndim for each in parts):
            raise RuntimeError(
                "indices should be either on cpu or on the same device as the indexed tensor (cpu)"
            )
        advanced = any(each.ndim or each.dtype == torch.bool for each in parts) or any(
            hasattr(each, "__len__") for each in (index if isinstance(index, tuple) else (index,))
        )
        if (
            value
            and isinstance(value[0], Tensor)
            and advanced
            and value[0].ndim
            and on_gpu(value[0]) != on_gpu(self)
        ):
            raise _apart("cuda:0 and cpu" if on_gpu(self) else "cpu and cuda:0")

    def _check_generator(self, function, gpu, kwargs):
        generator = kwargs.get("generator")
        if generator is None:
            if gpu:
                kwargs["generator"] = self.generator
        elif (type(generator) is Generator) != gpu:
            raise RuntimeError(
                f"Expected a '{'cuda' if gpu else 'cpu'}' device type for generator but found "
                f"'{generator.device.type}'"
            )


def _is_gpu(device):
    return (
        isinstance(device, int)
        and not isinstance(device, bool)
        or torch.device(device).type == "cuda"
    )


@contextmanager
def cuda(bfloat16=True):
    """Within this context torch has a GPU. bfloat16: whether it computes in it (a T4 does not)."""
    properties = SimpleNamespace(
        name="stand-in", total_memory=16 * 2**30, major=8 if bfloat16 else 7, minor=0
    )
    says = {
        "is_available": lambda: True, "device_count": lambda: 1, "current_device": lambda: 0,
        "is_initialized": lambda: True,
        "is_bf16_supported": lambda including_emulation=True: bfloat16 or including_emulation,
        "get_device_name": lambda device=None: properties.name,
        "get_device_properties": lambda device=None: properties,
        "get_device_capability": lambda device=None: (properties.major, properties.minor),
        "synchronize": lambda device=None: None, "empty_cache": lambda: None,
        "set_device": lambda device: None, "reset_peak_memory_stats": lambda device=None: None,
        "memory_allocated": lambda device=None: 0, "max_memory_allocated": lambda device=None: 0,
        "mem_get_info": lambda device=None: (properties.total_memory,) * 2,
    }  # fmt: skip
    mode = _Mode()
    says["manual_seed"] = says["manual_seed_all"] = mode.seed
    with ExitStack() as stack:
        stack.enter_context(mock.patch.multiple(torch.cuda, **says))
        stack.enter_context(mock.patch.object(torch, "Generator", Generator))
        stack.enter_context(mode)
        yield
