from __future__ import annotations

import time
import tracemalloc

import pytest

from jisu.exporter.contract.errors import InputError
from jisu.runtimes.chat.chat_template import ChatTemplate

HELLO = [{"role": "user", "content": "hello"}]
BIG = "{% set big = 'x' * 9000000 %}"
MANY = "{% set many = [big] * 1000 %}"
DOUBLED = "{%% set ns = namespace(a=%s) %%}{%% for i in range(40) %%}{%% set ns.a = %s %%}{%% endfor %%}"
BOMBS = {
    "ljust": "{{ 'a'.ljust(3000000000) }}",
    "rjust by name": "{{ 'a'['rjust'](3000000000) }}",
    "center": "{{ 'a'.center(3000000000) }}",
    "zfill": "{{ '1'.zfill(3000000000) }}",
    "center filter": "{{ 'a' | center(3000000000) }}",
    "indent": "{{ ('a\n' * 100000) | indent(90000) }}",
    "indent with a text": "{{ ('a\n' * 100000) | indent('x' * 90000) }}",
    "expandtabs": "{{ ('\t' * 100000).expandtabs(90000) }}",
    "expandtabs by keyword": "{{ ('\t' * 100000).expandtabs(tabsize=90000) }}",
    "join filter by keyword": "{{ ('a' * 100000) | join(d='b' * 100000) }}",
    "center by keyword": "{{ 'a' | center(width=3000000000) }}",
    "wordwrap by keyword": "{{ ('a ' * 100000) | wordwrap(width=1, wrapstring='b' * 100000) }}",
    "replace": "{{ ('a' * 100000).replace('a', 'b' * 100000) }}",
    "replace filter": "{{ ('a' * 100000) | replace('a', 'b' * 100000) }}",
    "replace of nothing": "{{ ('a' * 100000).replace('', 'b' * 100000) }}",
    "join": "{{ ('b' * 100000).join('a' * 100000) }}",
    "join filter": "{{ ['a'] * 100000 | join('b' * 100000) }}",
    "join of the same": BIG + MANY + "{{ many | join }}",
    "join of a generator": BIG + MANY + "{{ many | map('string') | join }}",
    "join by a method": BIG + MANY + "{{ ''.join(many) }}",
    "wordwrap": "{{ ('a ' * 100000) | wordwrap(1, wrapstring='b' * 100000) }}",
    "sum of lists": "{% set l = [[1] * 1000000] * 1000 %}{{ l | sum(start=[]) | length }}",
    "a list that is written": BIG + MANY + "{{ many }}",
    "a list that is joined to a text": BIG + MANY + "{{ (many ~ '') | length }}",
    "a list as text": BIG + MANY + "{{ (many | string) | length }}",
    "a list as JSON": BIG + MANY + "{{ many | tojson | length }}",
    "JSON that is indented": "{% set ns = namespace(l=[1] * 1000) %}{% for i in range(200) %}{% set ns.l = [ns.l] %}"
    "{% endfor %}{{ ns.l | tojson(indent=90000) | length }}",
    "a list in a format": BIG + MANY + "{{ ('%s' % (many,)) | length }}",
    "a format of the same": BIG + "{{ (('%(a)s' * 1000) % {'a': big}) | length }}",
    "a format filter": BIG + "{{ (('%(a)s' * 1000) | format(a=big)) | length }}",
    "str.format of the same": BIG + "{{ ('{0}' * 1000).format(big) | length }}",
    "format_map": BIG + "{{ ('{a}' * 1000).format_map({'a': big}) | length }}",
    "a width": "{{ '{:>3000000000}'.format(1) }}",
    "a width of a field": "{{ '{:>{}}'.format(1, 3000000000) }}",
    "a precision": "{{ '%.3000000000f' % 1.0 }}",
    "bytes": "{{ 'a'.encode().ljust(3000000000) }}",
    "bytes of a number": "{{ (1).to_bytes(3000000000, 'big') }}",
    "doubling with ~": DOUBLED % ("'x'", "ns.a ~ ns.a"),
    "doubling with +": DOUBLED % ("'x'", "ns.a + ns.a"),
    "doubling a list": DOUBLED % ("[1]", "ns.a + ns.a"),
    "a list of large texts": BIG
    + "{% set ns = namespace(l=[]) %}{% for i in range(1000) %}{% set ns.l = ns.l + [big[i:]] %}{% endfor %}",
    "uppercase copies": BIG + MANY + "{{ many | map('upper') | list | length }}",
    "a macro that doubles": "{% macro m(x) %}{{ x }}{{ x }}{% endmacro %}{% set ns = namespace(a='x') %}"
    "{% for i in range(40) %}{% set ns.a = m(ns.a) %}{% endfor %}",
    "a macro that writes much": BIG + "{% macro m() %}" + "{{ big }}" * 1000 + "{% endmacro %}{{ m() | length }}",
    "a block that writes much": BIG + "{% set t %}" + "{{ big }}" * 1000 + "{% endset %}{{ t | length }}",
    "the template's own text": "{% set t %}{% for i in range(99999) %}" + "x" * 9999 + "{% endfor %}{% endset %}",
    "a filter block": BIG + "{% filter upper %}" + "{{ big }}" * 1000 + "{% endfilter %}",
    "slices": "{{ [1] | slice(3000000000) | list | length }}",
    "a batch that is filled": "{{ [1] | batch(3000000000, 'x') | list | length }}",
    "many small lists": "{{ ('a' * 9000000) | batch(1) | list | length }}",
    "many small texts": "{% for i in range(99) %}{% set x = ('ab ' * 3000000).split() %}{% endfor %}",
    "links": "{{ ('http://a.b ' * 10000) | urlize(rel='x' * 90000) | length }}",
    "attributes": "{{ ({'a': 'b'} | xmlattr) }}",
    "lorem ipsum": "{{ lipsum(n=100000000) }}",
    "a translation": "{{ ('a' * 100000).translate({97: 'b' * 100000}) | length }}",
    "a constant expression": "{% if 'a' | center(3000000000) %}{% endif %}",
    "a date": "{{ strftime_now('%Y' * 1000000) | length }}",
    "pprint": BIG + MANY + "{{ many | pprint | length }}",
    "escapes": BIG + MANY + "{{ many | escape | length }}",
    "urlencode": BIG + "{{ ([['a', big]] * 1000) | urlencode | length }}",
    "a truncation": "{{ ('a' * 9000000) | truncate(3000000000, end='b' * 9000000) }}" * 50,
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_template_is_refused_before_it_takes_much_memory(bomb: str) -> None:
    started = time.process_time()
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match="template failed"):
            ChatTemplate(BOMBS[bomb], special_tokens={}).render(HELLO)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 150e6
    assert time.process_time() - started < 10


def test_what_real_templates_do_is_allowed() -> None:
    source = (
        "{%- macro show(x, first=false) -%}{{- 'a' if first }}{{- x | trim }}{%- endmacro -%}"
        "{% set ns = namespace(n=0, found=[]) %}{% for m in messages[::-1] %}{% set ns.n = ns.n + 1 %}"
        "{% set ns.found = ns.found + [m.role] %}{% endfor %}"
        "{{ show(messages[0].content, first=true) }} {{ ns.found | join(', ') }} {{ '%05.1f' % 2.5 }} "
        "{{ 'x'.ljust(3) }}{{ 'y' | center(3) }}{{ '{:>4}|{}'.format(1, 'z') }} {{ [3, 1] | sort | first }} "
        "{{ {'b': [1, 'ü']} | tojson }} {{ ({'a': 1} | tojson(indent=2)) | replace('\n', '') }} "
        "{{ 'a\nb' | indent(2) }} "
        "{{ messages | selectattr('role', 'equalto', 'user') | list | length }} {{ 'a,b'.split(',')[-1].rstrip() }} "
        "{{ range(3) | list }} {{ 'abc'[1:] }} {{ messages | map(attribute='role') | join }} "
        "{{ {'a': 1}.items() | list }}"
    )
    assert ChatTemplate(source, special_tokens={}).render([*HELLO, {"role": "assistant", "content": "x"}]) == (
        'ahello assistant, user 002.5 x   y    1|z 1 {"b": [1, "ü"]} {  "a": 1} a\n  b 1 b [0, 1, 2] bc userassistant '
        "[('a', 1)]"
    )


def test_a_long_conversation_is_rendered() -> None:
    source = "{% for m in messages %}{{ '<|' + m.role + '|>' ~ (m.content | trim) ~ '\n' }}{% endfor %}"
    messages = [{"role": "user", "content": "x" * 5000}] * 1000
    assert len(ChatTemplate(source, special_tokens={}).render(messages)) == 1000 * 5009
