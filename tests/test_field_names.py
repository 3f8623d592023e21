"""Names of fields that are read from a source are those of the imported dataclass."""

import dataclasses
import sys

import pytest

from dar_ref.field_names import field_names
from dar_ref.llm import build, options
from dar_ref.llm.keys import CONFIGURATIONS, SECTIONS, all_keys, section_keys
from dar_ref.toy.config import RunConfig


@pytest.mark.parametrize("method", options.METHODS)
def test_names_are_those_of_the_method_s_configuration(method):
    real = build.classes(method)[0]
    assert CONFIGURATIONS[method][1] == real.__name__
    assert set(field_names(*CONFIGURATIONS[method])) == {f.name for f in dataclasses.fields(real) if f.init}


def test_names_are_those_of_the_sections_and_of_a_toy_run():
    for name, of in SECTIONS.items():
        assert section_keys(name) == tuple(f.name for f in dataclasses.fields(getattr(options, of)))
    assert field_names("dar_ref.toy.config", "RunConfig") == tuple(f.name for f in dataclasses.fields(RunConfig))


@pytest.mark.parametrize("method", options.METHODS)
def test_every_key_stands_once_and_is_one_that_a_run_takes(method):
    keys = all_keys(method)
    assert len(keys) == len(set(keys))
    known = {f.name for f in dataclasses.fields(build.classes(method)[0])}
    free = [key.rpartition(".")[2] for key in keys if key.startswith(("methods.", "generation.", "training."))]
    assert set(free) == known - {f.name for f in dataclasses.fields(build.classes(method)[0]) if not f.init}


def test_fields_that_the_constructor_does_not_take_are_left_out(tmp_path, monkeypatch):
    (tmp_path / "a_package").mkdir()
    (tmp_path / "a_package" / "__init__.py").write_text("from .b import Upper as Other, Upper\n")
    (tmp_path / "a_package" / "b.py").write_text(
        "raise ImportError\nfrom typing import ClassVar\nfrom . import c\nfrom .c import Lower\n"
        "class Upper(Lower):\n    x: int\n    y: ClassVar[int]\n    z: int = field(init=False)\n    a: str = ''\n"
    )
    (tmp_path / "a_package" / "c.py").write_text(
        "class Lower:\n    a: int\n    b: int\n    no = 1\n    def f(self): ...\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert field_names("a_package", "Upper") == ("a", "b", "x")
    assert "a_package" not in sys.modules
    with pytest.raises(LookupError, match=r"a_package.b has no class Nobody"):
        field_names("a_package.b", "Nobody")
    with pytest.raises(ModuleNotFoundError) as missing:
        field_names("no_such_package.module", "A")
    assert missing.value.name == "no_such_package"
