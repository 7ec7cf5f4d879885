"""Writes chat-templates.json: what Jinja makes of the templates, set up as Hugging Face's library does it.

    pip install jinja2==3.1.6
    python chat-templates.py
"""

import datetime
import json
from pathlib import Path

from jinja2 import Environment
from jinja2.exceptions import TemplateError

HERE = Path(__file__).parent
MESSAGES = {
    "one": [("user", "Hi")],
    "three": [("user", "  Hello, there! "), ("assistant", "\nHello.\n"), ("user", "What is 1 < 2 & 'é'?\nSecond line")],
    "system": [("system", " Be brief. "), ("user", "Why?"), ("assistant", "<think>\nHm.\n</think>\n\nBecause."), ("user", "<got>x</got>")],
    "thought": [("user", "Why?"), ("assistant", "<think>\nHm.\nHm.\n</think>\n\nBecause.")],
    "out of turn": [("user", "a"), ("user", "b")],
}


def refuse(message):
    raise TemplateError(message)


def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


environment = Environment(trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"])
environment.filters["tojson"] = tojson
environment.globals["raise_exception"] = refuse
environment.globals["strftime_now"] = lambda format: datetime.datetime.now().strftime(format)

rendered = {}
for path in sorted((HERE / "templates").glob("*.jinja")):
    template = environment.from_string(path.read_text())
    of = rendered[path.stem] = {}
    for name, pairs in MESSAGES.items():
        messages = [{"role": role, "content": content} for role, content in pairs]
        try:
            of[name] = template.render(
                messages=messages, tools=None, documents=None, add_generation_prompt=True, bos_token="<bos>", eos_token="<eos>"
            )
        except TemplateError as error:
            of[name] = {"refused": str(error)}
messages = {name: [{"role": role, "content": content} for role, content in pairs] for name, pairs in MESSAGES.items()}
text = json.dumps({"messages": messages, "rendered": rendered}, ensure_ascii=False, indent=1)
(HERE / "chat-templates.json").write_text(text + "\n")
