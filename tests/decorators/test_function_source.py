# SPDX-License-Identifier: Apache-2.0
"""What of a file is shipped with a function, what is refused, and that the script does what the function does."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from airflow_provider_jobapi.decorators.arguments import with_call
from airflow_provider_jobapi.decorators.source import script_of
from airflow_provider_jobapi.exceptions import InvalidJob

TRAVELS = {
    "helpers and what they use, in the order of the file": (
        """
        import math as m
        from json import dumps, loads as read

        def train(number=2):
            return helper(number)

        SIZE = {"a": [1, -2.5], "b": (None, f"{3 * 4}")}
        def helper(number):
            return dumps([SIZE, m.floor(number * FACTOR)])
        FACTOR: float = 60 * 60 / UNIT if False else 3.7
        """,
        None,
    ),
    "constants of constants": (
        """
        UNIT = 60
        HOUR = 60 * UNIT

        def train():
            return HOUR
        """,
        "3600",
    ),
    "classes, and the types of a dataclass's fields": (
        """
        from dataclasses import dataclass, field, fields
        from typing import ClassVar

        class Base:
            def name(self):
                return type(self).__name__

        @dataclass
        class Net(Base):
            kinds: ClassVar[int] = 4
            widths: list[int] = field(default_factory=lambda: [WIDTH])

        WIDTH = 5

        def train():
            return Net().name() + str(Net().widths) + str([each.name for each in fields(Net)])
        """,
        "\"Net[5]['widths']\"",
    ),
    "a decorator of a helper": (
        """
        import functools

        @functools.cache
        def helper(n):
            return 1 if n < 2 else helper(n - 1) + helper(n - 2)

        def train():
            return helper(80)
        """,
        "37889062373143906",
    ),
    "recursion, nested functions, comprehensions, walrus, its own locals": (
        """
        OUTER = "unused" + str(object())

        def train(n=3):
            OUTER = 10
            def inner(k):
                nonlocal OUTER
                OUTER += k
                return OUTER
            return [y for x in range(n) if (y := inner(x))] + (train(n - 1) if n else [])
        """,
        "[10, 11, 13, 10, 11, 10]",
    ),
    "submodules of one package": (
        """
        import os.path
        import os
        import xml.dom
        import xml.etree.ElementTree

        def train():
            return xml.etree.ElementTree.fromstring("<a b='1'/>").attrib, os.path.basename("a/b"), xml.dom.__name__
        """,
        "({'b': '1'}, 'b', 'xml.dom')",
    ),
    "the names of the script's own end": (
        """
        _args = {"a": 1}
        _kwargs = _returned = 2
        def python(): return _json
        def returned(): return python.__name__
        def arguments(): return returned()
        def function(): return arguments()
        _json = 4
        def train(): return _args, function(), python()
        """,
        None,
    ),
    "functions called like builtins": (
        """
        def print(*_, **__): raise SystemExit(1)
        def repr(_): raise SystemExit(2)
        def train():
            return print.__name__, repr.__name__
        """,
        None,
    ),
    "annotations that nothing can evaluate": (
        """
        from __future__ import annotations
        from typing import TYPE_CHECKING
        if TYPE_CHECKING:
            from nowhere import Frame

        def train(rows: Frame = None, *args: Nonsense, **more: "what?") -> Dict[Frame]:
            count: Frame = 2
            return count
        """,
        "2",
    ),
    "texts of several lines, within a function of the DAG": (
        '''
        def pipeline():
            def train(a=1, /, b=2, *, c=3):
                """Doc
        that stands left
                    and right {{ }} \\\\n"""
                text = """x
          y
        z\\t"""
                return text
            return train
        train = pipeline()
        ''',
        repr("x\n  y\nz\t"),
    ),
}


@pytest.mark.parametrize("name", TRAVELS)
def test_it_is_shipped(load, ran, name):
    source, returned = TRAVELS[name]
    if name.startswith("helpers"):
        source = source.replace("60 * 60 / UNIT if False else 3.7", "3.7")
    train = load(source)
    here = repr(train())
    script = with_call(script_of(train), train, [], {})
    assert ran(script) == [f"train returned {here}"]
    assert returned is None or here == returned


STAYS = {
    "a variable around it": (
        "def dag():\n    N = 5\n    def train():\n        return [N for _ in ()]\n    return train\ntrain = dag()",
        "train uses N, a variable of dag around it, .* make it an argument of train, or define it at the top",
    ),
    "a default of around it": (
        "N = 1\ndef dag(N):\n    def train(n=N): ...\n    return train\ntrain = dag(2)",
        "train uses N, a variable of dag around it",
    ),
    "an import around it": (
        "def dag():\n    import json\n    def train():\n        json.dumps(1)\n    return train\ntrain = dag()",
        "train uses json, a variable of dag around it",
    ),
    "a value that is made": (
        "from datetime import date\nNOW = date.today()\ndef train(): print(NOW)",
        "train uses NOW, whose value is computed when digits.py is read .* or make it inside train",
    ),
    "a value that is made, of a helper": (
        "import os\nHOME = os.environ['HOME']\ndef b(): return HOME\ndef a(): b()\ndef train(): a()",
        "train, through a, uses HOME|train, through b, uses HOME",
    ),
    "several at once": ("A, B = 1, 2\ndef train(): print(A)", "train uses A, whose value is computed"),
    "bound twice": ("A = 1\nA = 2\ndef train(): print(A)", "train uses A, which digits.py binds 2 times"),
    "changed in place": ("A = 1\nA += 1\ndef train(): print(A)", "train uses A, which digits.py binds 2 times"),
    "a choice": (
        "try:\n    import cupy as np\nexcept ImportError:\n    import json as np\ndef train(): np.dumps(1)",
        "train uses np, which digits.py binds inside another statement",
    ),
    "nowhere": ("def train(): print(rows)", "train uses rows, which digits.py does not define at its top level"),
    "a star": ("from json import *\ndef train(): dumps(1)", "train uses dumps, which digits.py does not define"),
    "Airflow": (
        "from airflow.sdk import Variable\ndef train(): Variable.get('x')",
        "train uses Variable, which comes from airflow.sdk, and the job service has no Airflow",
    ),
    "another task": (
        "from airflow.sdk import task\n@task\ndef other(): ...\ndef train(): other()",
        "train, through other, uses task, which comes from airflow.sdk",
    ),
    "a file beside": (
        "import neighbour\ndef train(): neighbour.help()",
        "train uses neighbour, which is imported from a file of your own .* give its folder in source",
    ),
    "async": ("async def train(): ...", r"cannot ship train: it is an async function; .*asyncio.run"),
    "a generator": ("def train(): yield 1", "cannot ship train: it is a generator"),
    "a lambda": ("train = lambda: 1", "cannot ship <lambda>: it is a lambda; write it with def"),
    "a method": ("class A:\n    def train(self): ...\ntrain = A.train", "cannot ship train: it is a method"),
    "a bound method": ("class A:\n    def train(self): ...\ntrain = A().train", "cannot ship train: it is a method"),
    "a static method": ("class A:\n    @staticmethod\n    def train(): ...\ntrain = A.train", "it is a method"),
    "a partial": ("from functools import partial\ntrain = partial(print)", "is not a function written with def"),
    "a builtin": ("train = print", "cannot ship print: it is not a function written with def"),
    "a class": ("class train: ...", "it is not a function written with def"),
    "wrapped": (
        "import functools\ndef w(f):\n    @functools.wraps(f)\n    def g(): f()\n    return g\n@w\ndef train(): ...",
        "cannot ship train: it is wrapped by another decorator",
    ),
    "made by exec": ("space = {}\nexec('def train(): ...', space)\ntrain = space['train']", "does not hold its source"),
}


@pytest.mark.parametrize("name", STAYS)
def test_it_is_refused_by_name(load, tmp_path, name):
    source, sentence = STAYS[name]
    (tmp_path / "neighbour.py").write_text("def help(): ...\n")
    with pytest.raises(InvalidJob, match=sentence) as caught:
        script_of(load(source))
    assert "\n" not in str(caught.value)


def test_a_module_that_pip_installed_is_no_file_beside_the_dag(load, tmp_path, monkeypatch):
    monkeypatch.setattr(pytest, "__file__", str(tmp_path / ".venv/lib/site-packages/pytest/__init__.py"))
    assert "import pytest" in script_of(load("import pytest\ndef train(): pytest.fail()"))


def test_a_file_that_changed_since_it_was_read_is_no_source(load, tmp_path):
    train = load("def train(): ...")
    (tmp_path / "digits.py").write_text("\n\n\ndef train(): print('another one')\n")
    with pytest.raises(InvalidJob, match=r"digits.py does not hold its source in line 1"):
        script_of(train)


def test_the_decorators_of_the_function_stay_at_home(load):
    train = load(
        """
        import airflow.sdk
        from airflow.sdk import setup, task

        def same(**_):
            return lambda function: function

        @same(retries=SyntaxError, text=\"\"\"
            ) def train(
        \"\"\")
        @same()
        def train():
            @property
            def own(self): ...
        """
    )
    script = script_of(train)
    assert "same" not in script
    assert "@property" in script


# Arguments


def train(a, /, b=None, *rest, c=None, **named):
    return [a, b, rest, c, named]


ODD = [
    "'\"\\\n\r\t\0\x85\u2028",
    "$(x) `x` %s {x} {{x}}",
    "ž🐎\ud800",
    10**300,
    1e-320,
    None,
    True,
    [],
    {},
    "",
    "x" * 300_000,
]


@pytest.mark.parametrize("value", ODD, ids=range(len(ODD)))
def test_a_value_arrives_as_it_is(value):
    script = "def f(**named):\n    import json\n    print(json.dumps(named['v']))\n"

    def f(**named): ...

    done = subprocess.run(
        [sys.executable, "-I", "-"],
        input=with_call(script, f, [], {"v": {"deep": [value]}}).encode(),
        capture_output=True,
        check=True,
    )
    assert json.loads(done.stdout) == {"deep": [value]}


def test_positions_and_names_are_kept(ran):
    script = "def train(a, /, b=None, *rest, c=None, **named):\n    return [a, b, rest, c, named]\n"
    call = with_call(script, train, [1, 2, 3, 4], {"c": (5, 6), "a": 7, "not a name": 8})
    assert ran(call) == ["train returned [1, 2, (3, 4), [5, 6], {'a': 7, 'not a name': 8}]"]


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (b"1", "argument a is a bytes, which is not JSON: give bytes in data_input"),
        ({1, 2}, "argument a is a set, .* pass a sorted list"),
        ([{"x": object()}], r"argument a\[0\]\['x'\] is a object, .* a template of what you need of it"),
        (__import__("datetime").datetime.now(), "argument a is a datetime, .* pass it as a text or a number"),
        (__import__("pathlib").Path("x"), "is a PosixPath, .* pass its text"),
        ({1: 2}, "argument a has the key 1, which JSON would turn into a text"),
        (1j, "is a complex"),
        (10**5000, "too deep or too big"),
    ],
    ids=range(8),
)
def test_what_json_cannot_say_is_refused_by_name(value, sentence):
    with pytest.raises(InvalidJob, match=sentence):
        with_call("", train, [value], {})


def test_what_holds_itself_is_refused():
    itself: list = []
    itself.append(itself)
    with pytest.raises(InvalidJob, match="hold themselves"):
        with_call("", train, [itself], {})


def test_arguments_that_do_not_fit_are_refused():
    with pytest.raises(InvalidJob, match="train cannot be called: missing a required argument: 'a'"):
        with_call("", train, [], {"b": 1})
