"""Checks of the chapter in which patches are read as words."""

from collections.abc import Callable
from typing import Any

import numpy as np

from ... import stages, world
from ...models import VLM
from ...scenes import Scene
from . import exercise, expect, number, pair


@exercise("runs keep their order, and their lengths add up")
def segments(segments: Callable[[list[str]], Any]) -> None:
    strip = ["a", "a", "b", "c", "c", "c", "a"]
    found = segments(list(strip))
    expect(found is not None, "segments(strip) is None: is there a return at the end?")
    found = [pair(run, "each run") for run in found]
    numbered = all(isinstance(word, str) and not isinstance(n, str) for word, n in found)
    expect(numbered, "each run is a word and a length, in this order")
    whole = [word for word, n in found for _ in range(int(n))]
    expect(whole == strip, "written out again, the runs should give the strip back")
    neighbours = zip(found, found[1:])
    same = any(one[0] == other[0] for one, other in neighbours)
    expect(not same, "two runs side by side hold the same word: they are one")
    expect(list(segments([])) == [], "an empty strip has no runs")


@exercise("both readings agree as often as you say; your sentence still has to say why not always")
def agreement(agreement: Callable[[int], Any], vlm: VLM, scene: Scene) -> None:
    for layer in (0, vlm.n_layers):
        states = vlm.states(scene.image, layer).to(vlm.device)
        normed = vlm.unembedding(vlm.final_norm(states)).argmax(-1)
        plain = vlm.unembedding(states).argmax(-1)
        got = number(agreement(layer), f"agreement({layer})")
        expect(0 <= got <= 1, f"agreement({layer}) should be a share, between 0 and 1")
        share = (normed == plain).float().mean().item()
        expect(abs(got - share) < 1e-6, f"agreement({layer}) is not the share of equal words")


@exercise("words that belong to a neighbour are told apart from the patch's own")
def swapped(swapped: Callable[..., Any], words: np.ndarray, scene: Scene) -> None:
    for each in world.scenes("dev", 12):
        owner = stages.owners(each, words.shape)
        own = np.full(owner.shape, ".", dtype=object)
        for n, thing in enumerate(each.things):
            own[owner == n] = thing.category
        hits, count = pair(swapped(own, each), "swapped(words, scene)")
        objects = int((owner >= 0).sum())
        expect(number(count, "the count") == objects, "the count is that of all object patches")
        expect(number(hits, "the hits") == 0, "a map without an error holds no swap")
        hits, _ = swapped(np.full(owner.shape, ".", dtype=object), each)
        expect(number(hits, "the hits") == 0, "a map of full stops is wrong, but holds no swap")
        for word in {word for thing in each.things for word in thing.words}:
            with_it = [n for n, thing in enumerate(each.things) if word in thing.words]
            hits, _ = swapped(np.full(owner.shape, word, dtype=object), each)
            hits = number(hits, "the hits")
            expect(
                hits == ((owner >= 0) & ~np.isin(owner, with_it)).sum(),
                f"on a map of {word!r} alone, you count {hits:.0f} patches; "
                f"{len(with_it)} of the scene's {len(each.things)} things have that word",
            )
    print("(hits, count) in this chapter's scene:", swapped(words, scene))
