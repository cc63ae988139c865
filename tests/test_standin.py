"""The stand-in for CUDA does what CUDA does: a table of what is allowed, with where the result is,
and of what is refused."""

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tools.trials import standin

ALLOWED = {  # what, with the device of the result
    "gpu + 1": "cuda:0",
    "gpu + gpu": "cuda:0",
    "gpu + number": "cuda:0",
    "number * gpu": "cuda:0",
    "gpu * torch.tensor(2.0)": "cuda:0",
    "torch.where(gpu > 0, gpu, number)": "cuda:0",
    "torch.lerp(gpu, gpu, number)": "cuda:0",
    "gpu.masked_fill(gpu > 0, number)": "cuda:0",
    "gpu.cpu()": "cpu",
    "gpu.to('cpu')": "cpu",
    "gpu.to('cpu', torch.float64)": "cpu",
    "gpu.to(torch.float64)": "cuda:0",
    "gpu.to(device='cpu', dtype=torch.float16)": "cpu",
    "gpu.to(cpu)": "cpu",
    "cpu.to(gpu)": "cuda:0",
    "cpu.type_as(gpu)": "cuda:0",
    "cpu.cuda()": "cuda:0",
    "cpu.to('cuda')": "cuda:0",
    "cpu.to(0)": "cuda:0",
    "cpu.to(torch.device('cuda'), non_blocking=True)": "cuda:0",
    "gpu.float()": "cuda:0",
    "gpu.detach()": "cuda:0",
    "gpu[1:]": "cuda:0",
    "gpu.sum()": "cuda:0",
    "gpu.unbind()[0]": "cuda:0",
    "gpu.topk(2).indices": "cuda:0",
    "gpu.max(0).values": "cuda:0",
    "next(iter(gpu))": "cuda:0",
    "gpu.new_zeros(2)": "cuda:0",
    "gpu.new_tensor([1.0])": "cuda:0",
    "torch.zeros_like(gpu)": "cuda:0",
    "torch.zeros_like(gpu, device='cpu')": "cpu",
    "torch.zeros(2)": "cpu",
    "torch.zeros(2, device='cuda')": "cuda:0",
    "torch.arange(3, device=gpu.device)": "cuda:0",
    "torch.tensor([1.0], device='cuda')": "cuda:0",
    "torch.tensor(np.ones(2), device='cuda')": "cuda:0",
    "torch.tensor([gpu[0], gpu[1]])": "cpu",
    "torch.tensor(gpu[0])": "cuda:0",
    "torch.as_tensor(gpu)": "cuda:0",
    "torch.as_tensor(gpu, device='cpu')": "cpu",
    "torch.as_tensor(np.ones(3), device='cuda')": "cuda:0",
    "torch.from_numpy(np.ones(3))": "cpu",
    "gpu[torch.tensor([0, 2])]": "cuda:0",
    "gpu[torch.tensor([True, False, True])]": "cuda:0",
    "gpu[torch.tensor(1)]": "cuda:0",
    "cpu[torch.tensor(1, device='cuda')]": "cpu",
    "cpu.clone().copy_(gpu)": "cpu",
    "gpu.clone().copy_(cpu)": "cuda:0",
    "cpu.reshape(3, 1).expand_as(square)": "cpu",
    "square @ gpu": "cuda:0",
    "F.linear(gpu, square)": "cuda:0",
    "F.pad(gpu, (1, 0))": "cuda:0",
    "F.scaled_dot_product_attention(square[None], square[None], square[None])": "cuda:0",
    "nn.Linear(3, 2).to('cuda')(gpu)": "cuda:0",
    "nn.Linear(3, 2, device='cuda').weight": "cuda:0",
    "nn.Parameter(gpu)": "cuda:0",
    "copy.deepcopy(nn.Linear(3, 2).cuda()).weight": "cuda:0",
    "nn.Linear(3, 2).cuda().cpu().weight": "cpu",
    "torch.randn(3, generator=torch.Generator())": "cpu",
    "torch.randn(3, generator=torch.Generator('cuda'), device='cuda')": "cuda:0",
    "torch.randn(3, device='cuda')": "cuda:0",
    "torch.from_numpy(gpu.cpu().numpy())": "cpu",
    "torch.cat([gpu, gpu])": "cuda:0",
    "torch.einsum('i,i->', gpu, gpu)": "cuda:0",
    "torch.autograd.grad((leaf * 2).sum(), leaf)[0]": "cuda:0",
    "torch.isin(gpu, torch.tensor(1.0))": "cuda:0",
}
REFUSED = {  # what, with a part of CUDA's own words
    "gpu.numpy()": "can't convert cuda:0 device type tensor to numpy",
    "gpu.sum().numpy()": "can't convert cuda:0",
    "gpu.detach().numpy()": "can't convert cuda:0",
    "np.asarray(gpu)": "can't convert cuda:0",
    "np.array([gpu, gpu])": "can't convert cuda:0",
    "np.sqrt(gpu)": "can't convert cuda:0",
    "gpu + np.ones(3, np.float32)": "can't convert cuda:0",
    "np.ones(5)[gpu.long()]": "can't convert cuda:0",
    "nn.Parameter(gpu, requires_grad=False).numpy()": "can't convert cuda:0",
    "gpu[1:].numpy()": "can't convert cuda:0",
    "torch.stack(gpu.unbind()).numpy()": "can't convert cuda:0",
    "leaf.grad.numpy()": "can't convert cuda:0",
    "(gpu > 0).numpy()": "can't convert cuda:0",
    "gpu + cpu": "at least two devices, cuda:0 and cpu",
    "cpu + gpu": "at least two devices, cpu and cuda:0",
    "cpu + gpu[0]": "at least two devices",
    "cpu == gpu": "at least two devices",
    "gpu.clone().add_(cpu)": "at least two devices",
    "torch.cat([gpu, cpu])": "at least two devices",
    "torch.stack([gpu[0], number])": "at least two devices",
    "torch.equal(gpu, cpu)": "devices",
    "torch.allclose(gpu, cpu)": "at least two devices",
    "torch.where(gpu > 0, gpu, cpu)": "at least two devices",
    "torch.where(cpu > 0, gpu, gpu)": "at least two devices",
    "gpu.masked_fill(cpu > 0, 0.0)": "devices",
    "torch.cosine_similarity(gpu, cpu, dim=0)": "at least two devices",
    "square @ cpu": "at least two devices",
    "F.linear(gpu, square.cpu())": "at least two devices",
    "F.linear(cpu, square)": "at least two devices",
    "F.embedding(torch.tensor([0]), square)": "at least two devices",
    "nn.Linear(3, 2)(gpu)": "at least two devices",
    "square.gather(1, torch.zeros(3, 1, dtype=torch.long))": "at least two devices",
    "gpu.index_fill(0, torch.tensor([0]), 0.0)": "devices",
    "cpu[torch.tensor([0, 2], device='cuda')]": "indices should be either on cpu or on the same "
    "device as the indexed tensor",
    "cpu[gpu > 0]": "indices should be either on cpu",
    "torch.randn(3, generator=torch.Generator(), device='cuda')": "Expected a 'cuda' device "
    "type for generator but found "
    "'cpu'",
    "torch.randn(3, generator=torch.Generator('cuda'))": "Expected a 'cpu' device type for "
    "generator but found 'cuda'",
    "gpu.clone().normal_(generator=torch.Generator())": "Expected a 'cuda' device type for "
    "generator",
    "torch.einsum('i,i->', gpu, cpu)": "at least two devices",
    "F.cross_entropy(square, torch.tensor([0, 1, 2]))": "at least two devices",
    "torch.zeros(4).masked_scatter(torch.ones(4) > 0, gpu)": "devices",
    "gpu.bfloat16().cpu().numpy()": "BFloat16",  # this one everywhere
}


@pytest.fixture
def names():
    with standin.cuda():
        cpu, leaf = torch.tensor([1.0, 2.0, 3.0]), torch.ones(3, device="cuda", requires_grad=True)
        (leaf * 2).sum().backward()
        gpu = cpu.to("cuda")
        yield {
            "cpu": cpu, "gpu": gpu, "number": torch.tensor(2.0),
            "square": torch.eye(3, device="cuda"), "leaf": leaf,
            "torch": torch, "np": np, "nn": nn, "F": F, "copy": copy,
        }  # fmt: skip


@pytest.mark.parametrize("what", ALLOWED)
def test_what_cuda_allows(names, what):
    found = eval(what, names)
    assert str(found.device) == ALLOWED[what]
    assert found.is_cuda == (ALLOWED[what] != "cpu") != found.is_cpu and found.get_device() == (
        0 if found.is_cuda else -1
    )


@pytest.mark.parametrize("what", REFUSED)
def test_what_cuda_refuses(names, what):
    with pytest.raises((RuntimeError, TypeError), match=REFUSED[what].replace("(", r"\(")):
        eval(what, names)


def test_numbers_leave_without_being_asked(names):
    gpu = names["gpu"]
    assert (
        gpu.tolist() == [1, 2, 3]
        and gpu[1].item() == 2
        and int(gpu[2]) == 3
        and f"{gpu[0]:.1f}" == "1.0"
        and gpu[0] < 2
    )
    assert [10, 20, 30][gpu.argmax()] == 30 and 2.0 in gpu and gpu.numpy(force=True).sum() == 6


def test_what_is_written_where(names):
    """A slice takes a copy from anywhere; chosen places take it from their own device, or one
    number from anywhere."""
    cpu, gpu = names["cpu"].clone(), names["gpu"].clone()
    gpu[:2] = torch.tensor([7.0, 8.0])
    cpu[1:] = gpu[:2]
    gpu[torch.tensor([True, False, False])] = torch.tensor(9.0)
    assert gpu.tolist() == [9, 8, 3] and str(gpu.device) == "cuda:0"
    with pytest.raises(RuntimeError, match="two devices"):
        gpu[[0, 1]] = torch.tensor([1.0, 2.0])
    with pytest.raises(RuntimeError, match="two devices"):
        cpu[torch.tensor([0, 1])] = gpu[:2]
    assert cpu[1:].numpy().tolist() == [7.0, 8.0]


def test_a_copy_is_a_copy(names):
    gpu, cpu = names["gpu"].clone(), names["cpu"].clone()
    away, back = cpu.to("cuda"), gpu.cpu()
    away.add_(1), back.add_(1)
    assert (
        cpu.tolist() == [1, 2, 3]
        and gpu.tolist() == [1, 2, 3]
        and gpu.to("cuda") is gpu
        and cpu.cpu() is cpu
    )
    view = gpu[1:]
    view.zero_()
    assert gpu.tolist() == [1, 0, 0]


def test_random_numbers_are_not_those_of_the_cpu():
    with standin.cuda():
        torch.manual_seed(0)
        drawn = [torch.randn(9, device="cuda").cpu() for _ in range(2) if torch.manual_seed(0)]
        assert torch.equal(*drawn) and not torch.equal(torch.randn(9), drawn[0])


def test_training_runs_there():
    with standin.cuda():
        layer = nn.Linear(3, 1).to("cuda")
        optimiser = torch.optim.AdamW(layer.parameters())
        before = layer.weight.detach().clone()
        layer(torch.ones(2, 3, device="cuda")).sum().backward()
        torch.nn.utils.clip_grad_norm_(layer.parameters(), 1.0)
        optimiser.step()
        assert (
            layer.weight.is_cuda
            and layer.weight.grad.is_cuda
            and not torch.equal(layer.weight, before)
        )
        layer.load_state_dict({name: each.cpu() for name, each in layer.state_dict().items()})
        assert layer.weight.is_cuda
        with torch.device("cuda"):
            assert nn.Linear(2, 2).weight.is_cuda and torch.zeros(1).is_cuda


def test_hooks_see_it():
    with standin.cuda():
        layer, seen = nn.Linear(3, 1).to("cuda"), []
        layer.register_forward_hook(lambda _, args, out: seen.extend([args[0], out]))
        layer(torch.ones(2, 3, device="cuda"))
        assert all(each.is_cuda for each in seen)


def test_afterwards_there_is_no_gpu():
    available, generator = torch.cuda.is_available(), torch.Generator
    with standin.cuda(bfloat16=False):
        assert torch.cuda.is_available() and not torch.cuda.is_bf16_supported(
            including_emulation=False
        )
        kept = torch.ones(2, device="cuda")
    assert torch.cuda.is_available() == available and torch.Generator is generator
    assert kept.device.type == "cpu" and kept.numpy().sum() == 2


def test_products_in_bfloat16_are_rounded_once():
    generator = torch.Generator().manual_seed(0)
    x, w = (torch.randn(shape, generator=generator).bfloat16() for shape in ((5, 300), (7, 300)))
    with standin.cuda():
        product = torch.nn.functional.linear(x.cuda(), w.cuda())
        assert product.is_cuda and product.dtype == torch.bfloat16
        ours = product.cpu()
    exact = x.double() @ w.double().T
    # half a step of eight bits
    assert (ours.double() - exact).abs().max() <= exact.abs().max() * 2**-8
