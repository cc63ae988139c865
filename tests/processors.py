"""What transformers' own processors make of pictures and questions: inputs that owe nothing to
us."""

import json
from pathlib import Path

from transformers import (
    AutoTokenizer,
    Idefics3Processor,
    InternVLProcessor,
    LlavaProcessor,
    Qwen2_5_VLProcessor,
    Qwen2VLProcessor,
    Qwen3VLProcessor,
)

PROCESSORS = {
    "llava": LlavaProcessor, "qwen2_vl": Qwen2VLProcessor, "qwen2_5_vl": Qwen2_5_VLProcessor,
    "qwen3_vl": Qwen3VLProcessor, "internvl": InternVLProcessor, "idefics3": Idefics3Processor,
    # its own writes the same, and needs a package for what it says of videos
    "smolvlm": Idefics3Processor,
}  # fmt: skip
# what makes a processor show the whole picture alone
WHOLE = {"internvl": {"crop_to_patches": False}}
WHOLE |= dict.fromkeys(("idefics3", "smolvlm"), {"do_image_splitting": False})


def processor(vlm):
    """A family's processor, of the files in the folder that `vlm` was loaded from.

    Its half for videos is left out, since that needs torchvision: so none of its parts' classes is
    looked at.
    """
    folder, own = Path(vlm.name), PROCESSORS[vlm.family]
    settings = {}
    if (folder / "processor_config.json").exists():
        settings = json.loads((folder / "processor_config.json").read_text())
    elif own is Idefics3Processor:
        settings = {"image_seq_len": vlm.model.model.image_seq_len}
    settings.pop("processor_class", None)
    without_videos = type(
        own.__name__, (own,), {"check_argument_for_proper_class": lambda *_: None}
    )
    template = folder / "chat_template.json"
    if template.exists():
        template = json.loads(template.read_text())["chat_template"]
    else:
        template = (folder / "chat_template.jinja").read_text()
    parts = type(vlm.image_processor).from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    return without_videos(*parts, chat_template=template, **settings)


def prepared(vlm, images, questions):
    """The inputs of a batch, padded on the left; each picture is shown whole."""
    own = processor(vlm)
    messages = [
        [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": each}]}]
        for each in questions
    ]
    texts = [
        own.apply_chat_template(each, add_generation_prompt=True, tokenize=False)
        for each in messages
    ]
    images = [[each] for each in images]
    how = {
        "padding": True,
        "padding_side": "left",
        "return_tensors": "pt",
        **WHOLE.get(vlm.family, {}),
    }
    return dict(own(text=texts, images=images, **how))
