# SPDX-License-Identifier: Apache-2.0
"""What a function meets in its file it meets in the job, or it is refused: never another value without a word."""

from __future__ import annotations

import pytest

from airflow_provider_jobapi.decorators.arguments import with_call
from airflow_provider_jobapi.decorators.source import script_of
from airflow_provider_jobapi.exceptions import InvalidJob

SAME = {
    "registrations of a singledispatch": """
        import decimal
        from functools import singledispatch

        @singledispatch
        def kind(x):
            return "object"
        @kind.register
        def _(x: int):
            return "int" + SUFFIX
        @kind.register(str)
        def _(x):
            return "str"
        @kind.register
        def _(x: decimal.Decimal):
            return "decimal"
        SUFFIX = "!"

        def train():
            from decimal import Decimal
            return kind(1), kind(""), kind([]), kind(Decimal(1))
        """,
    "registrations of a method": """
        import decimal
        import functools

        class Kind:
            @functools.singledispatchmethod
            def of(self, x):
                return "object"
            @of.register
            def _(self, x: decimal.Decimal):
                return "decimal"

        def train():
            from decimal import Decimal
            return Kind().of(Decimal(1))
        """,
    "annotations that are evaluated": """
        import decimal
        import inspect
        import typing

        def helper(x: decimal.Decimal, y: "typing.Any") -> None: ...

        def train():
            return inspect.get_annotations(helper, eval_str=True), typing.get_type_hints(helper)
        """,
    "annotated fields of a class within": """
        def train():
            from dataclasses import dataclass, fields
            from pathlib import Path
            from typing import ClassVar
            @dataclass
            class C:
                T = int
                kinds: ClassVar[int] = 4
                p: Path = Path("a")
                t: T = 3
            return C(), [each.name for each in fields(C)]
        """,
    "a field's type for the checker alone": """
        from __future__ import annotations
        from dataclasses import dataclass
        from typing import TYPE_CHECKING
        if TYPE_CHECKING:
            from nowhere import Frame

        @dataclass
        class C:
            f: Frame = 1

        def train():
            return C()
        """,
    "several definitions of one function": """
        from typing import overload
        @overload
        def helper(x: int) -> int: ...
        @overload
        def helper(x: str) -> str: ...
        def helper(x): return x
        def train(): return helper(3)
        """,
    "subclasses that register themselves": """
        class Base:
            known = []
            def __init_subclass__(cls):
                Base.known.append(cls.__name__)
        class One(Base): ...
        class Two(One): ...
        def train(): return Base.known
        """,
    "subclasses that are asked for": """
        class Base: ...
        class One(Base): ...
        def train(): return [each.__name__ for each in Base.__subclasses__()]
        """,
    "registrations in a class": """
        class A:
            all = []
            @classmethod
            def add(cls, f):
                cls.all.append(f.__name__)
                return f
        @A.add
        def one(): ...
        def train(): return A.all
        """,
    "decorated helpers, when another one cannot be shipped": """
        import functools
        import os
        HOME = os.sep + "home"
        def twice(f):
            @functools.wraps(f)
            def g(*a):
                return f(*a), f(*a)
            return g
        @twice
        def helper(): return 3
        @twice
        def other(): return HOME
        other()
        helper()
        def train(): return helper()
        """,
    "modules set up at home": """
        import os, logging
        os.environ["NO_PROXY"] = "*"
        logging.getLogger("x").setLevel("INFO")
        def train(): return os.sep, logging.INFO
        """,
    "names of every script": """
        import logging
        def train(n=0, *, k: int = (lambda x=3: x)()):
            match [n, k]:
                case [0, int(y)] if (z := y) > 2:
                    return logging.getLogger(__name__).level, z, f"{n!r:>{k}} {'a'!s} \\n ž🐎 {{}}"
        """,
    "a global of its own": """
        COUNT = 0
        def count():
            global COUNT
            COUNT += 1
            return COUNT
        def train(): return count(), count(), COUNT
        """,
    "tabs and continued lines": "SUM = 1 + \\\n\t2\ndef train(\n\ta=1,\n):\n\tif a:\n\t\treturn SUM, '''\n\tx'''\n",
    "CRLF": "X = '''a\r\nb'''\r\ndef train():\r\n    return X, 'é'\r\n",
    "a ClassVar of a class within": """
        def train():
            from dataclasses import dataclass, fields
            from typing import ClassVar
            @dataclass
            class C:
                kinds: ClassVar[int] = 4
            return [each.name for each in fields(C)]
        """,
    "a type alias that is a constant, in a field": """
        from dataclasses import dataclass, fields
        from typing import NamedTuple
        Width = int
        class Size(NamedTuple):
            w: "Width" = 3
        @dataclass
        class C:
            w: Width = 3
            s: Size = Size()
            n: "nowhere" = 3
        def train() -> "nowhere.at all":
            return C(), fields(C)[0].type, Size.__annotations__["w"]
        """,
    "a set, a set of sets and functions by name": """
        NAMES = {"a", "b", "c", "d", "aa", "bb"}
        def relu(x): return x
        BY_NAME = {"relu": relu, "max": max, "names": [NAMES]}
        def train(): return sorted(BY_NAME), sorted(NAMES), BY_NAME["relu"](3)
        """,
    "a very long source": "def train():\n" + "".join(f"    x{i} = {i}\n" for i in range(5000)) + "    return x4999\n",
    "an import of a type that is nowhere in the job": """
        import neighbour
        def train(x: neighbour.Rows = None) -> neighbour.Rows: return 3
        """,
}


@pytest.mark.parametrize("name", SAME)
def test_it_is_the_same_in_the_job(load, ran, tmp_path, name):
    (tmp_path / "neighbour.py").write_text("class Rows: ...\n")
    train = load(SAME[name])
    script = with_call(script_of(train), train, [], {})
    here = repr(train())
    assert ran(script) == [f"train returned {here}"]


NOT_THE_SAME = {
    "a changed mapping": (
        "C = {'lr': 1}\nC['lr'] = 5\ndef train(): return C",
        "train uses C, which digits.py changes in line 2, and that is not shipped: put .*",
    ),
    "a changed list": ("L = []\nL.append(3)\ndef train(): return L", "train uses L, which digits.py changes in line 2"),
    "a changed list, later": (
        "L = []\ndef train(): return L\nfor i in [1]:\n    L.append(i)",
        "train uses L, which digits.py changes in line 4",
    ),
    "a deleted part": ("L = [1]\ndel L[0]\ndef train(): return L", "train uses L, which digits.py changes in line 2"),
    "a changed class": (
        "class A: x = 1\nA.x = 2\ndef train(): return A.x",
        "train uses A, which digits.py changes in line 2",
    ),
    "a registration by a call": (
        "import functools\n@functools.singledispatch\ndef h(x): ...\nh.register(int)(print)\ndef train(): h(1)",
        "train uses h, which digits.py changes in line 4",
    ),
    "a changed global": (
        "X = 1\ndef set_up():\n    global X\n    X = 7\nset_up()\ndef train(): return X",
        "train uses X, which its file binds to another value than it has now: ",
    ),
    "a changed alias": (
        "A = []\nB = A\nB.append(1)\ndef train(): return A",
        "train uses A, which its file binds to another value",
    ),
    "a constant of another type": (
        "X = 1\nglobals()['X'] = True\ndef train(): return X",
        "train uses X, which its file binds to another value",
    ),
    "the file": ("def train(): return __file__", "train uses __file__, which has another value on the job service: "),
    "the text of the module": ("'Doc.'\ndef train(): return __doc__", "train uses __doc__, which has another value"),
    "a namespace package beside": (
        "import near.by\ndef train(): near.by.help()",
        "train uses near, which is imported from a file of your own .* give its folder in source",
    ),
    "a name of a namespace package beside": (
        "from near import by\ndef train(): by.help()",
        "train uses by, which is imported from a file of your own",
    ),
    "nesting without end": (
        "X = " + "+".join(["1"] * 900) + "\ndef train(): return X",
        "cannot ship train: .* nested too deeply",
    ),
    "a wrapper without functools": (
        "def w(f):\n    def g(): return f()\n    return g\n@w\ndef train(): ...",
        "g uses f, a variable of w around it",
    ),
}


@pytest.mark.parametrize("name", NOT_THE_SAME)
def test_it_is_not_the_same_and_refused(load, tmp_path, name):
    (tmp_path / "near").mkdir()
    (tmp_path / "near" / "by.py").write_text("def help(): ...\n")
    source, sentence = NOT_THE_SAME[name]
    train = load(source)
    with pytest.raises(InvalidJob, match=sentence) as caught:
        script_of(train)
    assert "\n" not in str(caught.value)


def test_a_module_at_the_root_of_the_dags_is_refused(load, tmp_path):
    (tmp_path / "shared_by_all.py").write_text("def help(): ...\n")
    train = load("import shared_by_all\ndef train(): shared_by_all.help()", "team/digits.py")
    with pytest.raises(InvalidJob, match="train uses shared_by_all, which is imported from a file of your own"):
        script_of(train)
