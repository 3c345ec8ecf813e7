"""Write what transformers makes of chat templates, for chat_test.go.

    python golden.py [TEMPLATE.jinja ...] > golden.json

Without arguments: the templates below, which show the ways of the common chat
formats. Each is rendered with transformers' own Jinja environment.
"""
import json, sys
import jinja2, transformers
from transformers.utils.chat_template_utils import _compile_jinja_template

OWN = {
    "chatml": "{% for m in messages %}\n{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n' }}\n{% endfor %}\n{% if add_generation_prompt %}\n{{ '<|im_start|>assistant\n' }}\n{% endif %}\n",
    "chatml-default-system": "{%- if messages[0].role != 'system' %}\n    {{- '<|im_start|>system\\nYou help.<|im_end|>\\n' }}\n{%- endif %}\n{%- for m in messages %}\n    {%- if (m.role == \"user\") or (m.role == \"system\" and loop.first) or (m.role == \"assistant\" and not m.tool_calls) %}\n        {{- '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>' + '\\n' }}\n    {%- endif %}\n{%- endfor %}\n{%- if add_generation_prompt %}\n    {{- '<|im_start|>assistant\\n' }}\n{%- endif %}\n",
    "headers": "{% set loop_messages = messages %}{% for message in loop_messages %}{% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'+ message['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}",
    "zephyr": "{% for message in messages %}\n{% if message['role'] == 'user' %}\n{{ '<|user|>\n' + message['content'] + eos_token }}\n{% elif message['role'] == 'system' %}\n{{ '<|system|>\n' + message['content'] + eos_token }}\n{% elif message['role'] == 'assistant' %}\n{{ '<|assistant|>\n'  + message['content'] + eos_token }}\n{% endif %}\n{% if loop.last and add_generation_prompt %}\n{{ '<|assistant|>' }}\n{% endif %}\n{% endfor %}",
    "inst": "{%- if messages[0]['role'] == 'system' -%}{%- set system_message = messages[0]['content'] -%}{%- set rest = messages[1:] -%}{%- else -%}{%- set rest = messages -%}{%- endif -%}{{ bos_token }}{%- for m in rest -%}{%- if (m['role'] == 'user') != (loop.index0 % 2 == 0) -%}{{ raise_exception('roles must alternate user and assistant') }}{%- endif -%}{%- if m['role'] == 'user' -%}{%- if loop.first and system_message is defined -%}{{ ' [INST] <<SYS>>\\n' + system_message + '\\n<</SYS>>\\n\\n' + m['content'].strip() + ' [/INST]' }}{%- else -%}{{ ' [INST] ' + m['content'].strip() + ' [/INST]' }}{%- endif -%}{%- else -%}{{ ' ' + m['content'].strip() + eos_token }}{%- endif -%}{%- endfor -%}",
    "turns": "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}{% for m in messages %}{% if m['role'] == 'assistant' %}{% set role = 'model' %}{% else %}{% set role = m['role'] %}{% endif %}{{ '<start_of_turn>' + role + '\n' + m['content'] | trim + '<end_of_turn>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}",
    "json": "{% for m in messages %}{{ m | tojson }}\n{% endfor %}{{ {'b': 1, 'a': [1.5, true, none, 'x<y>\\'\"é'], 'n': {}} | tojson }}|{{ messages | tojson(indent=2) }}|{{ 'é' | tojson(ensure_ascii=true) }}",
    "generation": "{% for m in messages %}{% if m.role == 'assistant' %}<|assistant|>\n{% generation %}{{ m.content + '<|end|>' }}{% endgeneration %}{{ '\n' }}{% else %}{{ '<|' + m.role + '|>\n' + m.content + '<|end|>\n' }}{% endif %}{% endfor %}{% if add_generation_prompt %}<|assistant|>\n{% endif %}",
    "namespace": "{%- set ns = namespace(n=0, last='') -%}{%- for m in messages -%}{%- if m.role == 'user' -%}{%- set ns.n = ns.n + 1 -%}{%- set ns.last = m.content -%}{%- endif -%}{%- endfor -%}{%- for i in range(ns.n) -%}{{ i }}{%- if i == 1 -%}{%- break -%}{%- endif -%},{%- endfor -%}{{ ':' ~ ns.last | upper }}{%- macro twice(x) -%}{{ x }}{{ x }}{%- endmacro -%}{{ twice('ab') }}{{ messages | length }}{{ messages[-1]['content'][:3] }}{{ 'yes' if tools is defined and tools is not none else 'no' }}{% for m in messages[::-1] %}{{ m.role[0] }}{% endfor %}{{ messages | map(attribute='role') | join('/') }}{{ messages | selectattr('role', 'equalto', 'user') | list | length }}",
    "last-turn": "{%- set ns = namespace(last=-1) %}{%- for m in messages %}{%- if m.role == 'user' %}{%- set ns.last = loop.index0 %}{%- endif %}{%- endfor %}{%- for m in messages %}{%- if m.role == 'assistant' %}{{- '<|im_start|>assistant\\n' }}{%- if loop.index0 > ns.last %}{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}{{- m.content + '<|im_end|>\\n' }}{%- else %}{{- '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}{%- endif %}{%- endfor %}{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}",
    "thinking": "{% for m in messages %}{% if m.role == 'assistant' %}{% if '</think>' in m.content %}{% set content = m.content.split('</think>')[-1].lstrip('\n') %}{% else %}{% set content = m.content %}{% endif %}{{ '<|A|>' + content + '<|e|>' }}{% else %}{{ '<|U|>' + m.content }}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|A|><think>\n' }}{% endif %}",
}

U, A, S = "user", "assistant", "system"
TALKS = [
    [(U, "Hi")],
    [(S, "Be brief."), (U, "What is 2+2?"), (A, "4")],
    [(U, "  padded  "), (A, "  also padded \n"), (U, "Next\nline"), (A, "Done. 'quoted' \"twice\" <b>&amp;</b>")],
    [(S, "système ☃"), (U, "你好"), (A, "🚀 ok"), (U, "and?"), (A, "<think>\nhm\n</think>\n\nend"), (U, "last")],
    [(A, "I start."), (U, "ok"), (A, "")],
    [(U, "a"), (U, "b"), (A, "c")],
]


def main():
    templates = {p: open(p, encoding="utf-8", newline="").read() for p in sys.argv[1:]} or OWN
    out = []
    for name, source in templates.items():
        t = _compile_jinja_template(source)
        for talk in TALKS:
            msgs = [{"role": r, "content": c} for r, c in talk]
            for prompt in (False, True):
                case = {"name": name, "messages": [{"Role": r, "Content": c} for r, c in talk], "prompt": prompt}
                try:
                    case["text"] = t.render(messages=msgs, add_generation_prompt=prompt, bos_token="<s>", eos_token="</s>", tools=None, documents=None)
                except jinja2.exceptions.TemplateError as e:
                    case["error"] = str(e)
                out.append(case)
    json.dump({"transformers": transformers.__version__, "jinja2": jinja2.__version__, "templates": templates, "cases": out}, sys.stdout, ensure_ascii=False, indent=1)
    print()


main()
