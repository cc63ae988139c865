"""Token maps of a Qwen2-VL or LLaVA in the ways that a reader might otherwise take. All of them
give the same words.

Each way is a function of `Asked`, from the picture on, that gives (ids, probabilities), both
(depths, tokens, 5).
"""

from contextlib import contextmanager
from importlib.util import find_spec

import torch

import whatwhere as ww

TOP = 5


class Asked:
    """One picture, put to one model: the LM layer to read and the ViT depths."""

    def __init__(self, vlm, image, layer=None, depths=None):
        self.vlm, self.image = vlm, image
        self.layer = vlm.lens_layer if layer is None else layer
        self.depths = list(range(vlm.last_depth + 1)) if depths is None else list(depths)

    def prepared(self):
        """(what the model takes, the places of the visual tokens): every way begins with it, as
        ours does."""
        inputs = self.vlm.prepare(self.image, "")
        return inputs, self.vlm.image_places(inputs)[0].nonzero()[self.vlm.adapter.leading :, 0]


def ours(asked, batch_size=None):
    """`lens.token_maps`: it prepares the prompt itself, and that counts."""
    maps = ww.lens.token_maps(
        asked.vlm,
        asked.image,
        layer=asked.layer,
        depths=asked.depths,
        top_k=TOP,
        batch_size=batch_size,
    )
    return torch.from_numpy(maps.top_ids).flatten(1, 2), torch.from_numpy(
        maps.probabilities
    ).flatten(1, 2)


def whole(asked):
    """transformers alone: for each depth a forward pass of the whole model, with all hidden states
    and the logits of the whole prompt, in which the connector is given the ViT's state of that
    depth; and the lens on top of it."""
    return _passes(asked, _swapped)


def cut(asked):
    """The same with the ViT cut short after that depth: half of its work on average, and surgery on
    the model."""
    return _passes(asked, _cut)


@torch.no_grad()
def _passes(asked, changed):
    vlm, found = asked.vlm, []
    inputs, places = asked.prepared()
    for depth in asked.depths:
        with changed(vlm, depth) as named:
            out = vlm.model(**inputs, **named, output_hidden_states=True)
        found.append(
            _read(vlm, out.hidden_states[asked.layer], places, normed=asked.layer == vlm.n_layers)
        )
    return _stacked(found)


@torch.no_grad()
def hooks(asked):
    """Forward hooks, as one would write them for oneself: the ViT once, then the LM for each
    depth."""
    vlm, states, found = asked.vlm, {}, []
    inputs, places = asked.prepared()

    def before(_, args, named):
        states[0] = args[0] if args else named["hidden_states"]

    def after(n):
        return lambda _, args, out: states.update({n: _first(out)})

    handles = [vlm.vision_blocks[0].register_forward_pre_hook(before, with_kwargs=True)]
    handles += [
        block.register_forward_hook(after(n)) for n, block in enumerate(vlm.vision_blocks, start=1)
    ]
    try:
        arguments, named = vlm.adapter.vision_arguments(inputs)
        vlm.adapter.vision(*arguments, **named)
    finally:
        for handle in handles:
            handle.remove()
    for depth in asked.depths:
        given = _embedded(vlm, inputs, states[depth])
        out = vlm.lm(**given, output_hidden_states=True, use_cache=False)
        found.append(
            _read(vlm, out.hidden_states[asked.layer], places, normed=asked.layer == vlm.n_layers)
        )
    return _stacked(found)


@torch.no_grad()
def nnsight(asked):
    """nnsight: one trace of the ViT that saves every block, then one of the LM for each depth,
    stopped where it is read."""
    from nnsight import NNsight

    vlm, found = asked.vlm, []
    inputs, places = asked.prepared()
    arguments, named = vlm.adapter.vision_arguments(inputs)
    if not hasattr(vlm, "_traced"):  # wrapped once
        vlm._traced = NNsight(vlm.adapter.vision), NNsight(vlm.lm)
    tower, lm = vlm._traced
    blocks = _blocks(tower, vlm)
    with tower.trace(*arguments, **named):
        states = [].save()
        states.append(blocks[0].input)
        for block in blocks:
            states.append(block.output)
    for depth in asked.depths:
        given = _embedded(vlm, inputs, _first(states[depth]))
        with lm.trace(**given, use_cache=False) as tracer:
            hidden = (
                lm.layers[asked.layer - 1].output.save()
                if asked.layer
                else lm.layers[0].input.save()
            )
            tracer.stop()
        found.append(_read(vlm, _first(hidden), places))
    return _stacked(found)


WAYS = {"ours": ours, "whole forward passes": whole, "with the ViT cut": cut, "hooks": hooks}
if find_spec("nnsight"):  # make bench installs it
    WAYS["nnsight"] = nnsight
# whose work is the same for each depth, or on average: some can be timed
BY_DEPTH = ("whole forward passes", "with the ViT cut")


def _first(given):
    """A block's state, whether it came alone or first of several."""
    return given[0] if isinstance(given, tuple) else given


def _blocks(tower, vlm):
    return tower.blocks if vlm.family.startswith("qwen") else tower.encoder.layers


def _embedded(vlm, inputs, state):
    """What the LM is given where the ViT's state is this one."""
    embeddings = vlm.embed(inputs, vlm.adapter.connect(state, inputs))
    return {
        "inputs_embeds": embeddings,
        "attention_mask": inputs["attention_mask"],
        "position_ids": vlm.position_ids(inputs),
    }


def _read(vlm, hidden, places, normed=False):
    """The lens on one depth. normed: the last of `transformers`' hidden states has gone through the
    final norm."""
    hidden = hidden[0, places]
    return (
        vlm.unembedding(hidden if normed else vlm.final_norm(hidden)).float().softmax(-1).topk(TOP)
    )


def _stacked(found):
    return torch.stack([each.indices for each in found]).cpu(), torch.stack(
        [each.values for each in found]
    ).cpu()


@contextmanager
def _swapped(vlm, depth):
    """The connector is given the state after `depth` blocks. LLaVA has an argument for that,
    Qwen2-VL needs two hooks."""
    if vlm.family == "llava":
        yield {"vision_feature_layer": [depth]}  # a list, since 0 alone is taken for nothing
        return
    seen, blocks = {}, vlm.vision_blocks

    def before(_, args, named):
        seen["state"] = args[0] if args else named["hidden_states"]

    def after(_, args, out):
        seen["state"] = _first(out)

    heard = blocks[0].register_forward_pre_hook(before, with_kwargs=True)
    if depth:
        heard.remove()
        heard = blocks[depth - 1].register_forward_hook(after)
    handles = [
        heard,
        vlm.connector.register_forward_pre_hook(lambda _, args: (seen["state"], *args[1:])),
    ]
    try:
        yield {}
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _cut(vlm, depth):
    """Only so many blocks in the ViT, for as long as the context lasts. Yields what the model has
    to be told besides."""
    inner = getattr(vlm.adapter.vision, "encoder", vlm.adapter.vision)
    name = "layers" if hasattr(inner, "layers") else "blocks"
    whole = getattr(inner, name)
    setattr(inner, name, whole[: max(depth, 1)] if vlm.family == "llava" else whole[:depth])
    try:
        yield {"vision_feature_layer": [depth]} if vlm.family == "llava" else {}
    finally:
        setattr(inner, name, whole)
