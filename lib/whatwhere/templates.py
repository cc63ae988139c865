"""The chat template of a checkpoint: several files may hold one; a processor's comes first."""

from .files import read_json, read_text
from .hub import part_of

IN_JSON = "processor_config.json", "chat_template.json"
ALONE = "chat_template.jinja", "additional_chat_templates/default.jinja"


def chat_template(
    source: str, name: str, own: str | dict | None = None, revision: str | None = None
) -> str:
    """The template that a model is asked with: a processor's, else the tokenizer's `own`.

    The order is that of transformers' `ProcessorMixin.get_processor_dict`. A tokenizer may bring
    the template of its LM, which knows no images: the hub's Qwen2.5-VL has such a one in
    `tokenizer_config.json`, and the right one in `chat_template.json`. Of several templates, the
    one named "default" is taken.

    Raises:
        ValueError or FileNotFoundError: with a sentence.
    """
    for file in IN_JSON:
        path = part_of(source, name, file, revision)
        value = read_json(path) if path else {}
        template = value.get("chat_template") if isinstance(value, dict) else value
        if (
            template is not None or path and file == "chat_template.json"
        ):  # which is for nothing else
            return _default(template, f"'{path}'")
    for file in ALONE:
        path = part_of(source, name, file, revision)
        if path:
            return read_text(path)
    if own is None:
        raise ValueError(
            f"'{name}' has no chat template, so it is not known how it is to be asked."
        )
    return _default(own, f"The tokenizer of '{name}'")


def _default(template, where):
    if isinstance(template, dict):
        if "default" not in template:
            raise ValueError(
                f"{where} holds several chat templates ({', '.join(map(str, template))}), "
                "and none named 'default'."
            )
        template = template["default"]
    if not isinstance(template, str):
        raise ValueError(f"{where} holds no chat template: it is damaged.")
    return template
