"""The bench itself: the ways give the same words, the floor is counted right, a regression is
found."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode

import whatwhere as ww
from closeness import SAME, apart
from tools.bench import __main__ as bench
from tools.bench import compression, floor, lens, methods, timing, ways


@pytest.fixture(scope="module", params=["llava", "qwen2vl"])
def asked(request, folders):
    vlm = ww.load(folders / request.param)
    size = (24, 24) if request.param == "llava" else (48, 32)
    picture = Image.fromarray(
        np.random.default_rng(0).integers(0, 255, (*size[::-1], 3), dtype=np.uint8)
    )
    return ways.Asked(vlm, picture, layer=2)


@pytest.mark.parametrize("layer", [0, 2, 3])
@pytest.mark.parametrize("way", [way for way in ways.WAYS if way not in ("ours", "nnsight")])
def test_every_way_gives_the_same_words(asked, way, layer):
    asked = ways.Asked(asked.vlm, asked.image, layer)
    before = {name: weight.clone() for name, weight in asked.vlm.model.state_dict().items()}
    ids, probabilities = ways.WAYS[way](asked)
    ours = ways.ours(asked)
    assert (
        ids.shape == ours[0].shape == (asked.vlm.last_depth + 1, len(asked.prepared()[1]), ways.TOP)
    )
    assert apart(probabilities, ours[1]) < SAME and (ids == ours[0]).float().mean() > 0.99
    assert before.keys() == asked.vlm.model.state_dict().keys(), "the ViT is whole again"
    assert not any(
        module._forward_hooks or module._forward_pre_hooks
        for module in asked.vlm.connector.modules()
    )


def test_a_way_that_says_something_else_is_found_out(asked, monkeypatch):
    lens_of_another = lambda asked: ways.ours(ways.Asked(asked.vlm, asked.image, layer=0))  # noqa: E731
    monkeypatch.setattr(ways, "WAYS", {"ours": ways.ours, "another": lens_of_another})
    with pytest.raises(ValueError, match="another and ours do not say the same"):
        lens.agree(asked)


def attention(query, key, value, *_, out_shape=None, **__):
    """Of the CPU's own kernel, which PyTorch's counter does not know: all pairs of query and key,
    twice."""
    batch, heads, length, width = query
    return 4 * batch * heads * length * key[2] * width


def test_the_lens_multiplies_no_more_than_the_floor(asked):
    """The floor is a formula; PyTorch counts what the lens does: that, what stands before the
    picture again for each depth, and the half of the LM's attention that looks ahead and is
    masked."""
    kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    with FlopCounterMode(display=False, custom_mapping={kernel: attention}) as counter:
        ways.ours(asked)
    vlm, n, tokens, before = (
        asked.vlm,
        len(asked.depths),
        len(asked.prepared()[1]),
        int(asked.prepared()[1][0]),
    )
    again = 2 * (n - 1) * before * floor._matrices(vlm.lm_layers[: asked.layer])
    pairs = n * (tokens * (tokens + 1) / 2 + tokens * before) + before * (before + 1) / 2
    masked = (
        4 * asked.layer * vlm.unembedding.weight.shape[1] * (n * (tokens + before) ** 2 - pairs)
    )
    assert counter.get_total_flops() == pytest.approx(
        sum(floor.operations(asked).values()) + again + masked, rel=0.01
    )


def test_products_are_done_again_and_nothing_else(asked):
    """As many operations as the lens's own, on its own weights."""
    kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    counted = []
    with torch.no_grad(), floor.Products(asked.vlm.model) as products:
        ways.ours(asked)
    for act in (lambda: ways.ours(asked), products.again):
        with FlopCounterMode(display=False, custom_mapping={kernel: attention}) as counter:
            act()
        counted.append(counter.get_total_flops())
    assert counted[0] == counted[1] > 0
    weights = {each.data_ptr() for each in asked.vlm.model.parameters()}
    first = asked.vlm.lm_layers[0].mlp.down_proj.weight.data_ptr()
    used = {
        each.data_ptr() for _, args, _ in products.noted for each in args if torch.is_tensor(each)
    }
    assert first in weights & used


def test_the_floor_is_the_slower_of_multiplying_and_fetching(asked):
    doing, fetching = floor.operations(asked), floor.numbers(asked)
    assert floor.seconds(asked, 1.0, 1e30) == {stage: float(n) for stage, n in doing.items()}
    assert floor.seconds(asked, 1e30, 1.0) == {stage: float(n) for stage, n in fetching.items()}


def test_each_round_has_its_own_floor(asked, monkeypatch):
    took = {
        "ours": [3.0, 8.0],
        "one large product": [1.0, 2.0],
        "products": [1.5, 6.0],
        "more at once": [3.0, 4.0],
    }
    monkeypatch.setattr(timing, "interleaved", lambda acts, *_: {way: took[way] for way in acts})
    monkeypatch.setattr(floor.Machine, "bandwidth", lambda self: 1e30)  # fetching costs nothing
    found = lens.distance("tiny", asked.vlm, grid=None)
    work = sum(found["operations"].values()) / (2 * 2048**3)
    assert found["above the floor"]["least"] == pytest.approx(3 / work)
    assert found["above the floor"]["most"] == pytest.approx(8 / 2 / work)
    assert sum(found["floor"].values()) == pytest.approx(1.5 * work)
    assert found["in products"]["times"] == pytest.approx((0.5 + 0.75) / 2)
    assert found["more at once"] == {"depths": 8, "times": 0.75, "least": 0.5, "most": 1.0}


def test_peak_memory_is_what_is_held_at_once():
    def act():
        for _ in range(3):
            torch.ones(2**18)  # 1 MiB, and gone
        held = [torch.ones(2**18) for _ in range(4)]
        return len(held)

    assert timing.peak(act, torch.device("cpu")) == pytest.approx(4, abs=0.1)
    assert timing.peak(lambda: None, torch.device("cpu")) == 0


def test_acts_take_turns_and_ratios_are_by_round():
    order = []
    took = timing.interleaved(
        {name: lambda name=name: order.append(name) for name in "abc"}, 3, torch.device("cpu")
    )
    assert order == list("abcbcacab") and {len(each) for each in took.values()} == {3}
    assert timing.ratio([2, 9, 4], [1, 3, 4]) == {"times": 2, "least": 1, "most": 3}


def test_where_compression_begins_to_pay():
    def table(*times):
        shares = [0, 0.2, 0.4]
        rows = [["all tokens", 100.0, 1.0]]
        for share, each in zip(shares, times):
            rows += [
                [f"{share} removed", 100 * (1 - share), each],
                [f"{share} removed, ideal", 100 * (1 - share), 2.0],
            ]
        return pd.DataFrame(rows, columns=["way", "visual tokens", "prefill, times"]).set_index(
            "way"
        )

    assert compression.crossing(table(1 / 1.1, 1 / 0.9, 1 / 0.7)) == pytest.approx(0.1)
    assert np.isnan(compression.crossing(table(0.5, 0.6, 0.7)))
    assert compression.crossing(table(1.0, 1.2, 1.4)) == 0
    assert compression.reached(table(0.5, 1.0, 1.5))["0.4 removed"] == 0.75


def test_a_ratio_that_is_worse_by_a_fifth_fails_the_bench(tmp_path, monkeypatch, capsys):
    now = {"row: cut over ours": 3.0}
    monkeypatch.setattr(bench, "KEPT", tmp_path / "performance.json")
    monkeypatch.setattr(bench, "measured", lambda part, only: ({"rows": []}, dict(now)))
    assert bench.main(["lens"]) == 0 and "no figures of this machine" in capsys.readouterr().out
    assert not (tmp_path / "performance.json").exists(), "nothing is written unless asked for"
    assert bench.main(["lens", "--save"]) == 0
    now["row: cut over ours"] = 2.5
    assert bench.main(["lens"]) == 0
    now["row: cut over ours"] = 2.3
    assert (
        bench.main(["lens"]) == 1
        and "row: cut over ours is 2.30, on record 3.00" in capsys.readouterr().out
    )
    monkeypatch.setattr(bench, "machine", lambda: "another machine")
    assert bench.main(["lens"]) == 0
    assert len(json.loads((tmp_path / "performance.json").read_text())) == 1


def test_parts_are_named():
    with pytest.raises(SystemExit):
        bench.main(["speed"])


def test_words_are_timed_one_by_one_and_the_cache_is_what_was_kept():
    vlm = ww.load("toy-llava")
    inputs = vlm.prepare(ww.world.scene(3).image, "is there a mug ?")
    prompt = inputs["attention_mask"].shape[1]
    first, word, held = methods.run(vlm, inputs, words=3)
    with ww.compress.compressed(vlm, "grid", keep=36):
        _, _, less = methods.run(vlm, inputs, words=3)
    config = vlm.lm.config
    width = config.num_key_value_heads * config.head_dim
    # keys and values of each block, in float32; of the last word nothing has been computed yet
    token = 2 * config.num_hidden_layers * width * 4 / 2**20
    assert first > word > 0
    assert held == pytest.approx((prompt + 3) * token)
    assert less == pytest.approx((prompt - 144 + 36 + 3) * token)
