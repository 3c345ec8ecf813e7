"""Write what transformers' Jinja makes of templates, for jinja_test.go.

    python golden.py [COUNT SEED] > golden.json

Without arguments the templates below; with them COUNT random ones, put together
from pieces with every kind of white space control.
"""
import json, random, sys
import jinja2, transformers
from transformers.utils.chat_template_utils import _compile_jinja_template

VARS = {
    "messages": [{"role": "user", "content": "Hello, wörld"}, {"role": "assistant", "content": " 你好 \n", "n": 3}],
    "x": 7, "f": 2.5, "s": "a-b_c", "empty": [], "none_": None, "yes": True,
    "nest": {"b": {"c": [1, 2.0, None, False, "it's", 'q"q', "both'\""]}, "items": 1},
    "words": ["pear", "Apple", "fig", "apple"],
}

TEMPLATES = r'''
{{ 'a' + ('x' if yes else '') }}|{{ ('x' if x > 9 else 'y') + 'z' }}|{{ 'q' if false }}|{{ ('a' if x == 7 else 'b') ~ 1 }}
{{ messages[-1]['content'][:3] }}|{{ messages[0].content[7:] }}|{{ 'äöü'[1] }}|{{ 'abc'[::-1] }}|{{ [1,2,3,4][1:-1] }}|{{ [1,2,3][::2] }}|{{ 'abc'[5] }}
{{ none }}|{{ true }}|{{ 1.0 }}|{{ 1e20 }}|{{ 0.1 + 0.2 }}|{{ [1, 'a', none] }}|{{ {'a': 1, 'b': [true]} }}|{{ (1,) }}|{{ (1, 2) }}|{{ nest }}
{{ 7 // 2 }}|{{ -7 // 2 }}|{{ -7 % 3 }}|{{ 7 / 2 }}|{{ 2 ** 10 }}|{{ 2 ** -1 }}|{{ 'ab' * 3 }}|{{ [0] * 2 }}|{{ -x }}|{{ +f }}|{{ 1 - 2 - 3 }}|{{ 2 * 3 + 4 }}
{{ 1 < 2 < 3 }}|{{ 1 < 2 > 3 }}|{{ 'a' in 'abc' }}|{{ 1 not in [1] }}|{{ 'role' in messages[0] }}|{{ not yes or yes }}|{{ not (yes and x) }}|{{ 1 == 1.0 }}|{{ 'a' == 1 }}|{{ x and 'v' }}|{{ empty or 'alt' }}
{{ x is defined }}|{{ y is defined }}|{{ y is not defined }}|{{ none_ is none }}|{{ messages is iterable }}|{{ messages is mapping }}|{{ messages[0] is mapping }}|{{ s is string }}|{{ x is number }}|{{ x is odd }}|{{ 8 is divisibleby 4 }}|{{ x is eq 7 }}|{{ messages is sequence }}|{{ yes is boolean }}|{{ x is integer }}|{{ f is float }}
{{ s | upper }}|{{ s | title }}|{{ 'hello wORLD' | capitalize }}|{{ messages[1].content | trim }}|{{ s | replace('-', '+') }}|{{ s | length }}|{{ words | join(', ') }}|{{ words | first }}|{{ words | last }}|{{ words | sort }}|{{ words | sort(reverse=true, case_sensitive=true) }}|{{ words | unique | list }}|{{ words | reverse | list }}
{{ y | default('d') }}|{{ '' | default('d', true) }}|{{ none_ | default('d') }}|{{ y | d }}|{{ messages | map(attribute='role') | list }}|{{ words | map('upper') | join('') }}|{{ [1,2,3,4] | select('even') | list }}|{{ [0,1] | select | list }}|{{ messages | selectattr('role', 'equalto', 'user') | list | length }}|{{ messages | rejectattr('n', 'defined') | map(attribute='content') | list }}
{{ nest | tojson }}|{{ messages | tojson(indent=2) }}|{{ 'é<>&\'' | tojson }}|{{ 'é🚀' | tojson(ensure_ascii=true) }}|{{ {'b':1,'a':2} | tojson(sort_keys=true) }}|{{ [] | tojson(indent=1) }}|{{ {1: 2, none: 3} | tojson(separators=(',', ':')) }}
{{ [3,1,2] | max }}|{{ [3,1,2] | min }}|{{ [1,2] | sum }}|{{ -3 | abs }}|{{ '12' | int + 1 }}|{{ 'x' | int }}|{{ '1.5' | float }}|{{ 2.567 | round(2) }}|{{ 2.5 | round }}|{{ 3.2 | round(0, 'ceil') }}|{{ nest.b | items | list }}|{{ {'z':1,'a':2} | dictsort }}
{{ 'a\nb\n\nc' | indent }}|{{ 'a\nb' | indent(2, true) }}|{{ '%s is %d' | format('x', 3) }}|{{ '%s' % 'a' }}|{{ '%05.1f' % 2.25 }}|{{ 'one two three four' | truncate(12) }}|{{ 'one two' | wordcount }}|{{ '<a & "b">' | e }}
{{ 'a,b,,c'.split(',') }}|{{ ' a  b '.split() }}|{{ 'a b c'.split(' ', 1) }}|{{ 'a b c'.rsplit(' ', 1) }}|{{ 'xxabxx'.strip('x') }}|{{ ' a '.lstrip() }}|{{ 'ab'.rstrip('b') }}|{{ 'Ab'.lower() }}|{{ 'abc'.startswith(('x', 'ab')) }}|{{ 'abc'.endswith('c') }}|{{ 'abc'.find('c') }}|{{ 'aXbXc'.replace('X', '-', 1) }}|{{ 'ab'.title() }}|{{ '-'.join(words) }}|{{ 'a\nb'.splitlines() }}|{{ '42'.isdigit() }}|{{ 'abcabc'.count('b') }}|{{ 'a=b=c'.partition('=') }}|{{ 'abc'.removeprefix('a') }}|{{ '7'.zfill(3) }}|{{ 'ab'.center(5, '*') }}
{{ nest.items is callable }}|{{ nest['items'] }}|{{ nest.get('zz') }}|{{ nest.get('zz', 'dd') }}|{% for k, v in messages[1].items() %}{{ k }}={{ v }};{% endfor %}|{{ messages[0].keys() | list }}|{{ messages[0].values() | list }}
{% for i in [1,2,3] %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ loop.previtem }}{{ loop.nextitem }}{{ loop.cycle('a','b') }},{% endfor %}
{% for i in empty %}x{% else %}none{% endfor %}|{% for m in messages if m.role == 'user' %}{{ loop.length }}{{ m.content }}{% endfor %}|{% for i in range(10) %}{% if i == 2 %}{% continue %}{% endif %}{% if i == 5 %}{% break %}{% endif %}{{ i }}{% endfor %}|{% for a, b in [(1, 2), (3, 4)] %}{{ a }}{{ b }}{% endfor %}|{{ range(5, 0, -2) | list }}
{% set a = 1 %}{% for i in [1,2] %}{% set a = a + i %}{{ a }}{% endfor %}{{ a }}|{% set ns = namespace(n=0) %}{% for i in [1,2] %}{% set ns.n = ns.n + i %}{% endfor %}{{ ns.n }}|{% if true %}{% set b = 5 %}{% endif %}{{ b }}|{% set c, d = 1, 2 %}{{ c }}{{ d }}|{% set blk %}x{{ c }}{% endset %}{{ blk }}|{% set up | upper %}abc{% endset %}{{ up }}
{% macro m(a, b='d', c=none) %}[{{ a }}{{ b }}{{ c }}]{% endmacro %}{{ m(1) }}{{ m(1, c=3) }}{{ m(b=2, a=1) }}{{ m() }}|{% macro outer() %}<{{ caller() }}>{% endmacro %}{% call outer() %}in{% endcall %}|{% macro r(n) %}{{ n }}{% if n > 0 %}{{ r(n - 1) }}{% endif %}{% endmacro %}{{ r(3) }}
{% filter upper %}abc{{ s }}{% endfilter %}|{% with a = 1, b = 2 %}{{ a + b }}{% endwith %}|{% raw %}{{ not }}{% x %}{% endraw %}|{# comment #}|{% if x > 9 %}a{% elif x > 5 %}b{% else %}c{% endif %}|{% block bl %}in{% endblock %}
{{ y }}|{{ y | length }}|{% for i in y %}{% endfor %}|{{ y == z }}|{{ y ~ 'a' }}|{{ not y }}
{{ y.z }}
{{ y + 1 }}
{{ 'a' + 1 }}
{{ 1 / 0 }}
{{ y() }}
{{ messages.append(1) }}
{{ raise_exception('no ' ~ s) }}
{{ x | nofilter }}
{{ x is notest }}
{% if %}{% endif %}
{% for i in x %}{% endfor %}
{{ {'a':1}['b'] }}|{{ [1][3] }}|{{ messages[0]['zzz'] }}|{{ messages[0].zzz }}
{{ 'a' 'b' "c" }}|{{ '\x41\u00e9\n\\ \q \101' }}|{{ "it's" }}|{{ 1_000 }}|{{ 0 }}
{{ [[1, 2], [3]] | map('length') | list }}|{{ words | map('replace', 'p', 'P') | list }}|{{ words | groupby('0') }}|{{ [1,2,3,4,5] | batch(2) | list }}
{{ dict(a=1) }}|{{ dict([('a', 1)], b=2) }}|{{ messages | map(attribute='n', default='-') | list }}|{{ 'upper' is filter }}|{{ 'a' is in 'abc' }}|{{ 3 is lt 4 }}|{{ x if x is defined and x else 'n' }}
{{ messages[0].content.split(',')[0] }}|{{ (messages | first).role }}|{{ messages | last | attr('role') }}|{{ (x, f) }}|{{ 1, 2 }}|{{ -2 ** 2 }}|{{ 2 ** 3 ** 2 }}|{{ not 1 == 2 }}|{{ 5 % 3 * 2 }}|{{ 'a' ~ 1 + 2 }}
{{ 10 | string + 'a' }}|{{ [1] + [2] }}|{{ 'x' in nest }}|{{ nest.b.c | length }}|{{ nest.b.c[4] }}|{{ nest['b']['c'][-1] }}|{{ 'abc' | list }}|{{ {'a': 1} | list }}|{{ 'abc' | reverse }}|{{ words | join }}
{% if empty %}{{ x | nofilter }}{% endif %}a|{{ x | nofilter if empty }}b|{% if empty %}{{ x is notest }}{% endif %}c|{% if empty %}{% set q = x | nofilter %}{% for i in x | nofilter %}{% endfor %}{% endif %}d
{% if yes %}{{ x | nofilter }}{% endif %}
{% if yes %}{{ x is notest }}{% endif %}
{% for i in empty %}{{ x | nofilter }}{% endfor %}
{% if empty %}{% for i in empty %}{{ x | nofilter }}{% endfor %}{% endif %}
{% if empty %}{% set q %}{{ x | nofilter }}{% endset %}{% endif %}
{% if empty %}{% filter nofilter %}{% endfilter %}{% endif %}
{% if empty %}{% set q | nofilter %}{% endset %}{% endif %}
{% if empty %}{% macro q() %}{{ x | nofilter }}{% endmacro %}{% endif %}
{% if empty %}{% for i in empty %}{% if i %}{{ x | nofilter }}{% endif %}{% endfor %}{% endif %}a
{{ none | selectattr('a') | list }}|{{ none | map('upper') | list }}|{{ 0 | select | list }}|{{ false | rejectattr('a') | list }}
{{ 1 | map('upper') | list }}
{{ '{} {}'.format(1, 'a') }}|{{ '{0}{1}{0} {{x}} {n}'.format(1, 'a', n=none) }}|{{ '{!r}'.format('a') }}|{{ '{}'.format(1, 2, z=3) }}|{{ '{} {x}'.format(true, x=[1, 'a']) }}
{{ '{}'.format() }}
{{ '{0}{}'.format(1, 2) }}
{{ '{} }'.format(1) }}
'''.strip("\n").split("\n")

SPACE = [
    "a\n  {% if yes %}\n  b\n  {% endif %}\n  c\n", "a\n  {%- if yes -%}\n  b\n  {%- endif -%}\n  c\n", "a {%+ if yes %} b {% endif +%}\nc",
    "  {% if yes %}x{% endif %}\n\n\ny", "a\n\t{# c #}\n  b {#- c -#} \n d", "{{ x }}\n{{ x -}}\n  {{- x }}\n", "x\r\n{% if yes %}\r\ny\r\n{% endif %}\r\n", "{% raw -%}  {{ a }}  {%- endraw %}  z",
    "  {{ x }}  \n  {% for i in [1,2] %}\n    {{ i }}\n  {% endfor %}\nend\n\n", "{%- if yes %}\n\n a{% endif %}", "a{% if yes %} {% endif %}  {% if yes %}b{% endif %}", "{{ {'a': {'b': 1}} }}", "{{ '}}' }}{{ \"%}\" }}", "a\n   {%+ if yes %}b{% endif %}", "   {#+ x #}y", "{# a #}\n  {# b #}\n c",
    "\n{% if yes %}\n{% endif %}\n", "x {%- raw %} {{ y }} {% endraw -%} z", "{% if yes -%} a\n {% elif x %}b{%- endif %}\nc",
]


def pieces(r, depth=0):
    out = []
    for _ in range(r.randint(1, 4)):
        ws = lambda: r.choice(["", "", " ", "\n", "  ", "\n\n", "\n  ", " \n", "\t"])
        b = lambda: "{%" + r.choice(["", "", "-", "+"]) + " "
        e = lambda: " " + r.choice(["", "", "-", "+"]) + "%}"
        k = r.random()
        if k < 0.35:
            out.append(ws() + r.choice(["a", "b.", "", "x\ny"]) + ws())
        elif k < 0.55:
            out.append("{{" + r.choice(["", "-"]) + " " + r.choice(["x", "s", "'q'", "messages[0].role", "y", "x + 1", "s | upper", "('a' if x else 'b')"]) + " " + r.choice(["", "-"]) + "}}")
        elif k < 0.62:
            out.append(r.choice(["{# c #}", "{#- c #}", "{# c -#}", "{#- c -#}", "{# c +#}"]))
        elif k < 0.66:
            out.append(b() + "raw" + e() + ws() + "{{ r }}" + ws() + b() + "endraw" + e())
        elif depth < 3:
            inner = pieces(r, depth + 1)
            if k < 0.85:
                out.append(b() + "if " + r.choice(["x", "y", "x > 3", "s is defined"]) + e() + inner + (b() + "else" + e() + pieces(r, depth + 1) if r.random() < 0.4 else "") + b() + "endif" + e())
            else:
                out.append(b() + "for i in " + r.choice(["[1, 2]", "empty", "words"]) + e() + inner + b() + "endfor" + e())
    return "".join(out)


def main():
    templates = TEMPLATES + SPACE
    if len(sys.argv) > 1:
        r = random.Random(int(sys.argv[2]))
        templates = [pieces(r) for _ in range(int(sys.argv[1]))]
    cases = []
    for source in templates:
        case = {"source": source}
        try:
            case["text"] = _compile_jinja_template(source).render(**VARS)
        except Exception as e:
            case["error"] = type(e).__name__ + ": " + str(e)
        cases.append(case)
    json.dump({"transformers": transformers.__version__, "jinja2": jinja2.__version__, "vars": VARS, "cases": cases}, sys.stdout, ensure_ascii=False, indent=1)
    print()


main()
