"""The benchmarks that come with the package, one record each.

How their files are read stands in `formats`, in whose words they ask in `prompts` and `paper`, how
they are scored in `scores`: each of these is named here, and nowhere else. The paper's figures are
those of its tables 1 (compression) and 2 (RoPE scaling, training-free).
"""

from functools import partial

from . import formats, paper, prompts, scores, tabletop
from .record import Benchmark, Paper, register

LLAVA, QWEN25, QWEN2, QWEN2_SMALL = "LLaVA-1.5-7B", "Qwen2.5-VL-7B", "Qwen2-VL-7B", "Qwen2-VL-2B"
OBJECTS, ABSENTEES = ("one object", "two objects"), formats.POPE
JOINED = "one object and two joined in a way that is not said"


def _compressed(llava, qwen):
    """Table 1: LLaVA's figures by itself and by methods 1, 2 and 3; Qwen2.5-VL's by itself and by
    methods 1 and 3."""
    ways = (None, "rle", "rle-drop", "rle-drop-both")
    return dict(zip([(LLAVA, way) for way in ways], llava)) | dict(
        zip([(QWEN25, way) for way in (None, ways[1], ways[3])], qwen)
    )


def _scaled(small, large):
    """Table 2: figures of Qwen2-VL's 2B and 7B, as they are and scaled."""
    return {(model, change): value for model, both in ((QWEN2_SMALL, small), (QWEN2, large))
            for change, value in zip((None, "scaled"), both)}  # fmt: skip


register(Benchmark(
    name="whatsup-a", title="on, under, left or right, photographed",
    read=partial(formats.whatsup, stem="controlled_images", split="Controlled_Images_A"),
    ask=prompts.captions, score=scores.controlled,
    hub="ServiceNow/whatsup_all", patterns=("*Controlled_Images_A*",),
    layout="controlled_images_dataset.json, controlled_images/",
    paper=Paper(paper.captions, figures=_scaled((74.61, 77.27), (98.06, 98.86))),
))  # fmt: skip
register(Benchmark(
    name="whatsup-b", title="in front, behind, left or right, photographed",
    read=partial(formats.whatsup, stem="controlled_clevr", split="Controlled_Images_B"),
    ask=prompts.captions, score=scores.controlled,
    hub="ServiceNow/whatsup_all", patterns=("*Controlled_Images_B*",),
    layout="controlled_clevr_dataset.json, controlled_clevr/",
    paper=Paper(paper.captions, figures=_scaled((53.16, 58.25), (87.84, 88.97))),
))  # fmt: skip
register(Benchmark(
    name="coco-spatial", title="where things are in COCO's pictures",
    read=partial(formats.spatial, stem="coco_qa", split="COCO_QA", pictures="val2017", digits=12),
    ask=prompts.captions, score=scores.by_part, parts=OBJECTS,
    hub="ServiceNow/whatsup_all", patterns=("*COCO_QA_*",),
    layout="coco_qa_one_obj.json, coco_qa_two_obj.json, val2017/",
    paper=Paper(paper.captions, shuffled=False, figures=_scaled((49.84, 50.24), (88.79, 89.27)),
        unsaid=JOINED),
))  # fmt: skip
register(Benchmark(
    name="gqa-spatial", title="where things are in GQA's pictures",
    read=partial(formats.spatial, stem="vg_qa", split="VG_QA", pictures="vg_images"),
    ask=prompts.captions, score=scores.by_part, parts=OBJECTS,
    hub="ServiceNow/whatsup_all", patterns=("*VG_QA_*",),
    layout="vg_qa_one_obj.json, vg_qa_two_obj.json, vg_images/",
    paper=Paper(paper.captions, figures=_scaled((76.61, 78.22), (92.84, 94.31)), unsaid=JOINED),
))  # fmt: skip
register(Benchmark(
    name="vsr", title="is what is said of two things true?", read=formats.vsr,
    ask=prompts.statement, score=scores.yes_or_no, words=128,
    layout="test.jsonl (of the zero-shot or the random split), images/",
))  # fmt: skip
register(Benchmark(
    name="pope", title="is it there?", read=formats.pope, ask=prompts.briefly, score=scores.pope,
    parts=ABSENTEES, words=128, hub="lmms-lab/POPE", patterns=("Full/*.parquet",),
    revision="4db1276663dfa5eb8ad16a52d24c31a09e470896",
    layout="coco_pope_random.json, …_popular.json, …_adversarial.json, val2014/",
    paper=Paper(paper.pope, figures=_compressed((85.96, 86.00, 85.66, 85.90),
        (89.23, 87.46, 86.83))),
))  # fmt: skip
register(Benchmark(
    name="gqa", title="questions about scenes, test-dev balanced", read=formats.gqa,
    ask=prompts.briefly, score=scores.accuracy, hub="lmms-lab/GQA",
    patterns=("testdev_balanced_instructions/*.parquet", "testdev_balanced_images/*.parquet"),
    revision="a6e72d6e1b912da88af8b2f9eba05d5ea8ec2dd8",
    layout="testdev_balanced_questions.json, images/", paper=Paper(
        paper.in_a_word, drawn=partial(paper.some, 1000),
        figures=_compressed((60.50, 61.32, 60.14, 61.06), (61.20, 60.80, 60.03)),
    ),
))  # fmt: skip
register(Benchmark(
    name="textvqa", title="questions about what is written, validation", read=formats.textvqa,
    ask=prompts.textvqa, score=scores.accuracy, words=128,
    hub="lmms-lab/textvqa", patterns=("data/validation-*.parquet",),
    revision="9c0699cd19768ac5ab97568f6b3cbac4c0062884",
    layout="TextVQA_0.5.1_val.json, train_images/", paper=Paper(
        paper.in_a_word, drawn=paper.last_of_each_group,
        figures=_compressed((45.01, 43.16, 35.04, 38.53), (78.21, 76.33, 74.78)),
    ),
))  # fmt: skip
register(Benchmark(
    name="mmbench", title="a bit of everything, by letter, English, dev", read=formats.mmbench,
    ask=prompts.mmbench, score=scores.mmbench, counted=scores.circular, words=1024,
    hub="lmms-lab/MMBench_EN", patterns=("data/dev-*.parquet",), layout="one .tsv",
    paper=Paper(
        paper.mmbench, drawn=paper.first_of_each_group,
        figures=_compressed((53.73, 51.40, 47.33, 50.45), (84.68, 84.27, 83.58)),
    ),
))  # fmt: skip
register(Benchmark(
    name="tabletop-a", title="on, under, left or right, in the organisms' world",
    draw=lambda: tabletop.controlled("A"), score=scores.controlled,
))  # fmt: skip
register(Benchmark(
    name="tabletop-b", title="behind, in front, left or right, in the organisms' world",
    draw=lambda: tabletop.controlled("B"), score=scores.controlled,
))  # fmt: skip
register(Benchmark(
    name="tabletop-b-narrow", title="the same, with things that touch or overlap",
    draw=lambda: tabletop.controlled("B", "narrow"), score=scores.controlled,
))  # fmt: skip
register(Benchmark(
    name="tabletop-pope", title="is it there? in the organisms' world",
    draw=lambda: tabletop.pope(), score=scores.pope, parts=ABSENTEES,
))  # fmt: skip
