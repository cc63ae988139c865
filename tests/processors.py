"""What transformers' own processors make of pictures and questions: inputs that owe nothing to us."""

import json
from pathlib import Path

from transformers import (
    AutoTokenizer,
    InternVLProcessor,
    LlavaProcessor,
    Qwen2_5_VLProcessor,
    Qwen2VLProcessor,
)

PROCESSORS = {
    "llava": LlavaProcessor, "qwen2_vl": Qwen2VLProcessor, "qwen2_5_vl": Qwen2_5_VLProcessor, "internvl": InternVLProcessor
}  # fmt: skip


def processor(vlm):
    """A family's processor, of the files in the folder that `vlm` was loaded from.

    Its half for videos is left out, since that needs torchvision: so none of its parts' classes is looked at.
    """
    folder, own = Path(vlm.name), PROCESSORS[vlm.family]
    settings = json.loads((folder / "processor_config.json").read_text()) if vlm.family in ("llava", "internvl") else {}
    settings.pop("processor_class", None)
    without_videos = type(own.__name__, (own,), {"check_argument_for_proper_class": lambda *_: None})
    template = folder / "chat_template.json"
    if template.exists():
        template = json.loads(template.read_text())["chat_template"]
    else:
        template = (folder / "chat_template.jinja").read_text()
    parts = type(vlm.image_processor).from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    return without_videos(*parts, chat_template=template, **settings)


def prepared(vlm, images, questions):
    """The inputs of a batch, padded on the left; an InternVL sees each picture whole."""
    own = processor(vlm)
    messages = [[{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": each}]}] for each in questions]
    texts = [own.apply_chat_template(each, add_generation_prompt=True, tokenize=False) for each in messages]
    how = {"crop_to_patches": False} if vlm.family == "internvl" else {}
    images = [[each] for each in images]
    return dict(own(text=texts, images=images, padding=True, padding_side="left", return_tensors="pt", **how))
