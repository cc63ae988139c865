"""What differs between model families: where the parts are, and how patches become visual tokens.

One small adapter per family. It finds the blocks, the connector and the norm in the untouched Hugging
Face model, and knows the order in which that family's ViT lays out its patches. Everything else is
shared and lives in `models`. A new family is a new class and a line in FAMILIES: book/new_adapter.md adds one.
"""

from .internvl import InternVL
from .llava import Llava
from .qwen import Qwen2VL, Qwen25VL

FAMILIES = {"llava": Llava, "qwen2_vl": Qwen2VL, "qwen2_5_vl": Qwen25VL, "internvl": InternVL}
