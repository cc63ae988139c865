"""Token maps at all depths: ours beside the alternatives, and ours beside the floor."""

import statistics

import torch

import whatwhere as ww

from . import floor, models, timing, ways

DEPTH, GRID = 24, 8  # of the model in whose neighbourhood one thing at a time is changed
DEPTHS, GRIDS, VOCABULARIES, LAYERS = (
    (8, 16, 32),
    (16, 32),
    (1024, 8192, 32768, models.WORDS),
    (0, 6),
)
ROUNDS = {8: 3, 16: 2, 32: 1}  # by grid: the largest takes minutes
MORE = 8  # depths in the LM at once: would more be faster, and at what price in memory?


def settings(names):
    """(what, how to get the model, visual tokens along the side, LM layer) of each row."""
    for name in names:
        yield name, lambda name=name: ww.load(name), None, None
    base = models.half
    for words in VOCABULARIES:
        yield f"{words:,} words", lambda words=words: base(vocabulary=words), GRID, None
    for depth in DEPTHS:
        yield f"{depth} ViT blocks", lambda depth=depth: base(depth), GRID, None
    for grid in GRIDS:
        yield f"{grid} × {grid} tokens", base, grid, None
    for layer in LAYERS:
        yield f"LM layer {layer}", base, GRID, layer


def picture(grid=None):
    """One picture, of `grid` × `grid` visual tokens."""
    image = ww.world.scene(seed=7).image
    return image.resize((grid * models.TOKEN,) * 2) if grid else image


def measure(names, only=None):
    """One row for each setting: what it is, {way: median seconds}, {way: how many times ours},
    {way: MiB at most}."""
    for what, make, grid, layer in settings(names):
        if only is None or what in only:
            yield row(what, make(), grid, layer)


@torch.no_grad()
def row(what, vlm, grid=None, layer=None):
    image = picture(grid)
    every = ways.Asked(vlm, image, layer)
    few = ways.Asked(
        vlm,
        image,
        layer,
        [vlm.last_depth // 4, vlm.last_depth // 2, 3 * vlm.last_depth // 4] if grid else None,
    )
    agree(few)  # and warm
    acts = {
        way: lambda act=act, way=way: act(few if way in ways.BY_DEPTH else every)
        for way, act in ways.WAYS.items()
    }
    took = timing.interleaved(acts, ROUNDS.get(grid, 30), vlm.device, what)
    share = len(every.depths) / len(few.depths)
    took = {
        way: [each * (share if way in ways.BY_DEPTH else 1) for each in seconds]
        for way, seconds in took.items()
    }
    return {
        "what": what, "model": vlm.name, "depths": len(every.depths),
        "tokens": len(every.prepared()[1]), "layer": every.layer,
        "words": len(vlm.unembedding.weight), "timed depths": len(few.depths),
        "seconds": {way: statistics.median(seconds) for way, seconds in took.items()},
        "times": {way: timing.ratio(seconds, took["ours"]) for way,
            seconds in took.items() if way != "ours"},
        "peak": {way: timing.peak(lambda act=act: act(few), vlm.device) for way,
            act in ways.WAYS.items() if way != "ours"}
        | {"ours": timing.peak(lambda: ways.ours(every), vlm.device)},
    }  # fmt: skip


def distances(names, only=None):
    """One row for each setting but the largest: seconds, how many times the floor, the share that
    products of matrices take, and what more depths at once would change."""
    for what, make, grid, layer in settings(names):
        if grid != max(GRIDS) and (only is None or what in only):
            yield distance(what, make(), grid, layer)


@torch.no_grad()
def distance(what, vlm, grid=None, layer=None):
    asked = ways.Asked(vlm, picture(grid), layer)
    machine = floor.Machine(vlm.device, vlm.dtype)
    with floor.Products(vlm.model) as products:  # and warm
        ways.ours(asked)
    acts = {
        "ours": lambda: ways.ours(asked),
        "one large product": machine.multiply,
        "products": products.again,
        "more at once": lambda: ways.ours(asked, MORE),
    }
    rounds = 2 * ROUNDS.get(grid, 15)
    took = timing.interleaved(acts, rounds, vlm.device, what)
    bandwidth = machine.bandwidth()
    # of each round its own: a slow minute of the machine is the floor's too
    floors = [
        floor.seconds(asked, machine.operations / each, bandwidth)
        for each in took["one large product"]
    ]
    seconds = {way: statistics.median(each) for way, each in took.items()}
    return {
        "what": what, "model": vlm.name, "depths": len(asked.depths), "layer": asked.layer,
        "words": len(vlm.unembedding.weight), "rounds": rounds, "seconds": seconds,
        "operations": floor.operations(asked),
        "floor": {
            stage: statistics.median(each[stage] for each in floors) for stage in floor.STAGES
        },
        "above the floor": timing.ratio(took["ours"], [sum(each.values()) for each in floors]),
        "in products": timing.ratio(took["products"], took["ours"]),
        "more at once": {"depths": MORE, **timing.ratio(took["more at once"], took["ours"])},
        "peak": {way: timing.peak(acts[way], vlm.device) for way in ("ours", "more at once")},
    }  # fmt: skip


def agree(asked):
    """All ways must say the same, or their times mean nothing: ValueError where they do not."""
    ours = ways.ours(asked)
    for way, act in ways.WAYS.items():
        ids, probabilities = act(asked)
        if (
            not torch.allclose(probabilities, ours[1], rtol=1e-2, atol=1e-4)
            or (ids == ours[0]).float().mean() < 0.99
        ):
            raise ValueError(f"{way} and ours do not say the same words.")


def ratios(rows):
    """(name, number) of what must not become worse: how many times as fast as each way, and as
    small."""
    for row in rows:
        for way, each in row["times"].items():
            yield f"{row['what']}: {way} over ours", each["times"]
        if row["model"] not in ("toy-llava", "toy-qwen2vl"):  # whose few MiB are the allocator's
            yield (
                f"{row['what']}: memory of whole forward passes over ours",
                row["peak"]["whole forward passes"] / row["peak"]["ours"],
            )
