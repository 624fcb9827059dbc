"""Wrong signatures and wrong calls between functions are errors at the place that is wrong."""

from __future__ import annotations

import pytest
from pypto.errors import (
    HostOrchestratorError,
    PyptoError,
    SignatureError,
    SyntaxUnsupported,
    TypeMismatch,
    UnboundVariable,
)

FUNCTIONS = """
M, N = pl.dynamic("M"), pl.dynamic("N")
T = pl.Tensor[[16, 16], pl.FP32]
@pl.program
class P:
    @pl.function(type=pl.FunctionType.InCore)
    def kernel(self, a: T, f: pl.Out[T]):
        return pl.store(pl.load(a, [0, 0], [16, 16]), [0, 0], f)
    @pl.function(type=pl.FunctionType.InCore)
    def square(self, a: pl.Tensor[[M, M], pl.FP32], f: pl.Out[pl.Tensor[[M, M], pl.FP32]]):
        pl.store(pl.load(a, [0, 0], [1, 1]), [0, 0], f)
    @pl.function(type=pl.FunctionType.InCore)
    def scaled(self, a: T, by: pl.Scalar[pl.INT32], f: pl.Out[T]):
        pl.store(pl.load(a, [0, 0], [16, 16]) * by, [0, 0], f)
    @pl.function(type=pl.FunctionType.Orchestration)
    def chip(self, a: T, f: pl.Out[T]):
        return self.kernel(a, f)
    @pl.function(level=pl.Level.HOST, role=pl.Role.Worker)
    def check(self, f: T):
        pass
"""
CHIP = "    @pl.function(type=pl.FunctionType.Orchestration)\n"
HOST = "    @pl.function(level=pl.Level.HOST, role=pl.Role.Orchestrator)\n"
WORKER = "    @pl.function(level=pl.Level.HOST, role=pl.Role.Worker)\n"
KERNEL = "    @pl.function(type=pl.FunctionType.InCore)\n"
AF = "(self, a: T, f: pl.Out[T]): "
ZEROS = "pl.store(pl.full([1, 1], 0.0, dtype=pl.FP32), [0, 0], {})"


def method(decorator, head, body="pass"):
    return f"{decorator}    def {head}\n" + "".join(f"        {line}\n" for line in body.split("\n"))


@pytest.mark.parametrize(
    ("message", "added"),
    [
        (
            r"argument `a` is Tensor\[\[16, 8\], FP32\], but parameter 'a' of kernel is Tensor\[\[16, 16\], FP32\]: "
            "dimension 1 differs",
            method(CHIP, "g(self, a: pl.Tensor[[16, 8], pl.FP32], f: pl.Out[T]):", "self.kernel(«a», f)"),
        ),
        (
            "the dtypes differ",
            method(CHIP, "g(self, a: pl.Tensor[[16, 16], pl.FP16], f: pl.Out[T]):", "self.kernel(«a», f)"),
        ),
        (
            "the numbers of dimensions differ",
            method(CHIP, "g(self, a: pl.Tensor[[16], pl.FP32], f: pl.Out[T]):", "self.kernel(«a», f)"),
        ),
        (
            "dimension 0 differs",
            method(CHIP, "g(self, a: pl.Tensor[[M, 16], pl.FP32], f: pl.Out[T]):", "self.kernel(«a», f)"),
        ),
        (
            "dimension 1, M, is 8 in an argument before, and 9 in this one",
            method(CHIP, "g(self, a: pl.Tensor[[8, 9], pl.FP32], f: pl.Out[T]):", "self.square(«a», f)"),
        ),
        (
            "dimension 0, M, is M in an argument before, and N in this one",
            method(
                CHIP,
                "g(self, a: pl.Tensor[[M, M], pl.FP32], f: pl.Out[pl.Tensor[[N, N], pl.FP32]]):",
                "self.square(a, «f»)",
            ),
        ),
        ("but parameter 'by' of scaled is Scalar", method(CHIP, "g" + AF, "self.scaled(a, «0.5», f)")),
        ("but parameter 'by' of scaled is Scalar", method(CHIP, "g" + AF, "self.scaled(a, «a», f)")),
        ("but parameter 'a' of kernel is", method(CHIP, "g" + AF, "self.kernel(«3», f)")),
        ("device= takes an index", method(HOST, "g" + AF, "self.chip(a, f, device=«a»)")),
        (
            "returns Tensor.*FP32",
            method(CHIP, "g(self, a: T, f: pl.Out[T]) -> pl.Tensor[[4, 4], pl.FP32]:", "«return f»"),
        ),
    ],
)
def test_types_must_fit(programs, message, added):
    programs.fails(TypeMismatch, message, programs.program, FUNCTIONS + added)


def test_the_error_of_an_argument_says_where_the_callee_is_declared(programs):
    added = method(CHIP, "g(self, a: pl.Tensor[[16, 8], pl.FP32], f: pl.Out[T]):", "self.kernel(«a», f)")
    error = programs.fails(TypeMismatch, "dimension 1 differs", programs.program, FUNCTIONS + added)
    assert "kernel is declared at module_1.py:8" in str(error)


@pytest.mark.parametrize(
    ("message", "added"),
    [
        (r"self.kernel takes 2 arguments \(a, f\); missing: f", method(CHIP, "g" + AF, "«self.kernel(a)»")),
        (r"takes 2 arguments \(a, f\), found 3", method(CHIP, "g" + AF, "self.kernel(a, f, «f»)")),
        ("no parameter 'g'", method(CHIP, "g" + AF, "self.kernel(a, g=«f»)")),
        ("InCore kernel g can't call InCore kernel kernel", method(KERNEL, "g" + AF, "«self.kernel(a, f)»")),
        ("host orchestrator g can't call InCore kernel kernel", method(HOST, "g" + AF, "«self.kernel(a, f)»")),
        ("chip orchestration g can't call SubWorker check", method(CHIP, "g" + AF, "«self.check(a)»")),
        ("chip orchestration g can't call chip orchestration chip", method(CHIP, "g" + AF, "«self.chip(a, f)»")),
        ("device= can't be given to SubWorker check", method(HOST, "g" + AF, "self.check(a, device=«0»)")),
        ("device= can't be given to InCore kernel kernel", method(CHIP, "g" + AF, "self.kernel(a, f, device=«0»)")),
        ("can't be used in chip orchestration g", method(CHIP, "g" + AF, "t = «pl.load(a, [0, 0], [4, 4])»")),
        ("check gives no result", method(HOST, "g" + AF, "x = «self.check(a)»")),
        ("check gives no result", method(HOST, "g" + AF, "return «self.check(a)»")),
        ("one result for 2 variables", method(CHIP, "g" + AF, "x, y = «self.kernel(a, f)»")),
        (
            "declares no result and returns one result",
            method(CHIP, "g(self, a: T, f: pl.Out[T]) -> None:", "«return f»"),
        ),
        ("g declares one result and returns no result", method(CHIP, "«g»(self, a: T, f: pl.Out[T]) -> T:")),
        ("a function returns tensors", method(CHIP, "g(self, a: T) -> «int»:")),
        ("'a' is written here, but it is an In parameter of g", method(CHIP, "g" + AF, "self.kernel(f, «a»)")),
        ("'a' is written here", method(CHIP, "g" + AF, "self.kernel(f, «a[0:16]»)")),
        ("'f' is passed to pair as 'a' and as 'b', and written", method(CHIP, "g" + AF, "self.pair(f, «f»)")),
        ("'f' is passed to chip as 'a' and as 'f', and written", method(HOST, "g" + AF, "self.chip(f, «f»)")),
        (
            "returns the intermediate tensor 'x'",
            method(CHIP, "g" + AF, "x = pl.create_tensor([16, 16], dtype=pl.FP32)\nreturn «self.kernel(a, x)»"),
        ),
        ("returns the intermediate tensor", method(CHIP, "g" + AF, "return «f[0:8]»")),
        ("parameter 'a' of g has no annotation, and it is passed to nothing", method(CHIP, "g(self, «a»):")),
        ("parameter 'a' of InCore kernel g needs a type", method(KERNEL, "g(self, «a»):")),
        ("parameter 'a' of SubWorker g needs a type", method(WORKER, "g(self, «a»):")),
        ("SubWorker g gives no result", method(WORKER, "g(self, a: T) -> «T»:")),
        ("no type of a parameter", method(CHIP, "g(self, a: «int»):")),
        ("a tile can't be a parameter", method(KERNEL, "g(self, a: «pl.Tile[[4, 4], pl.FP32]»):")),
        ("no type of the language", method(CHIP, "g(self, a: T):", "x: «int» = pl.dim(a, 0)")),
        ("has no parameter self", method(CHIP, "«g»():")),
        ("'a' is a variable already", method(CHIP, "g(self, a: T):", "for «a» in pl.range(3):\n    pass")),
    ],
)
def test_calls_and_signatures_must_be_right(programs, message, added):
    pair = method(KERNEL, "pair(self, a: pl.Out[T], b: pl.Out[T]):", f"{ZEROS.format('a')}\n{ZEROS.format('b')}")
    programs.fails(SignatureError, message, programs.program, FUNCTIONS + pair + added)


@pytest.mark.parametrize(
    ("message", "added"),
    [
        ("parameters have no defaults", method(CHIP, "g(self, a: T = «None»):")),
        ("only plain parameters", method(CHIP, "g(self, *«a: T»):")),
        ("only plain parameters", method(CHIP, "g(self, *, «a: T»):")),
        (
            "'x' is another tensor in the next turn of the loop",
            method(CHIP, "g" + AF, "x = a\nfor i in pl.range(2):\n    «x» = a[0:16]"),
        ),
        (
            "'x' is another tensor in the next turn of the loop",
            method(CHIP, "g" + AF, "x = a\nfor i in pl.range(2):\n    «x» = f"),
        ),
        (
            "only tuples, and the results of one of the program's functions",
            method(CHIP, "g" + AF, "x, y = «pl.dim(a, 0)»"),
        ),
        ("one name twice", method(CHIP, "g" + AF, "«x, x» = self.kernel(a, f)")),
    ],
)
def test_python_without_a_meaning_is_refused(programs, message, added):
    programs.fails(SyntaxUnsupported, message, programs.program, FUNCTIONS + added)


def test_a_dimension_must_be_in_a_shape_of_the_function(programs):
    added = method(CHIP, "g" + AF, "x = pl.create_tensor([«M», 4], dtype=pl.FP32)")
    programs.fails(UnboundVariable, "dimension M is in the shape of no parameter", programs.program, FUNCTIONS + added)


def test_uses_of_a_parameter_without_annotation_must_agree(programs):
    added = method(KERNEL, "half(self, a: pl.Tensor[[16, 16], pl.FP16], f: pl.Out[T]):", ZEROS.format("f"))
    added += method(CHIP, "g(self, a, f):", "self.kernel(a, f)\nself.half(«a», f)")
    programs.fails(TypeMismatch, "its uses disagree: kernel takes .* half takes", programs.program, FUNCTIONS + added)


def test_a_parameter_without_annotation_takes_what_fits_all_its_uses(programs):
    rows = "rows(self, a: pl.Tensor[[N, 16], pl.FP32], f: pl.Out[pl.Tensor[[N, M], pl.FP32]]):"
    added = method(KERNEL, rows, ZEROS.format("f"))
    added += method(CHIP, "g(self, a, f, x, y):", "self.rows(a, f)\nself.kernel(a, f)\nself.rows(x, y)")
    params = programs.program(FUNCTIONS + added).function("g").params
    assert [str(param.type) for param in params] == [
        "Tensor[[16, 16], FP32]",
        "Tensor[[16, 16], FP32]",
        "Tensor[[N, 16], FP32]",
        "Tensor[[N, M], FP32]",
    ]


def test_parts_of_a_parameter_do_not_tell_its_type(programs):
    added = method(CHIP, "g(self, a: T, «f»):", "self.kernel(a, f[0:16])")
    programs.fails(SignatureError, "only parts of it are passed on", programs.program, FUNCTIONS + added)


def test_two_kernels_may_share_a_parameter_that_one_updates_in_place(programs):
    program = programs.program(FUNCTIONS + method(CHIP, "g(self, a: pl.InOut[T]):", "self.kernel(a, a)"))
    assert program.function("g").params[0].direction.writes


@pytest.mark.parametrize(
    ("message", "decorator"),
    [
        ("needs type= or level=", "pl.function()"),
        ("needs to know what the function is", "pl.function"),
        ("says two different things", "pl.function(type=pl.FunctionType.InCore, level=pl.Level.CHIP)"),
        ("at level HOST needs a role", "pl.function(level=pl.Level.HOST)"),
        ("role= needs level=", "pl.function(role=pl.Role.Worker)"),
        ("can't be at level POD with role Worker", "pl.function(level=pl.Level.POD, role=pl.Role.Worker)"),
        ("can't be at level DIE", "pl.function(level=pl.Level.DIE)"),
        ("can't be at level CHIP with role Worker", "pl.function(level=pl.Level.CHIP, role=pl.Role.Worker)"),
    ],
)
def test_a_decorator_must_say_one_thing(programs, message, decorator):
    with pytest.raises(SignatureError, match=message) as caught:
        programs.program(f"@pl.program\nclass P:\n    @{decorator}\n    def f(self): pass")
    assert caught.value.line == 4


@pytest.mark.parametrize(
    "decorator",
    ["level=pl.Level.CORE_GROUP", "level=pl.Level.CORE", "type=pl.FunctionType.InCore, level=pl.Level.CORE"],
)
def test_kernels_may_be_marked_by_level(programs, decorator):
    program = programs.program(f"@pl.program\nclass P:\n    @pl.function({decorator})\n    def f(self): pass")
    assert program.functions[0].kind.value == "InCore kernel"


def test_the_host_orchestrator_must_be_there_and_be_one(programs):
    without = programs.program(FUNCTIONS)
    with pytest.raises(HostOrchestratorError, match="program P has no host orchestrator") as caught:
        without.require_host()
    assert (caught.value.line, caught.value.column) == (6, 6)
    assert "class P:" in str(caught.value)
    assert "role=pl.Role.Orchestrator" in str(caught.value)
    assert without.entry.name == "chip"

    call = "return self.chip(a, f)"
    two = programs.program(FUNCTIONS + method(HOST, "g" + AF, call) + method(HOST, "h" + AF, call))
    with pytest.raises(HostOrchestratorError, match=r"2 host orchestrators \(g, h\)") as caught:
        two.require_host()
    assert caught.value.span == two.function("h").span

    one = programs.program(FUNCTIONS + method(HOST, "g" + AF, call))
    assert one.entry is one.require_host() is one.function("g")


def test_without_host_level_the_entry_must_be_clear(programs):
    chips = programs.program(FUNCTIONS + method(CHIP, "g" + AF, "self.kernel(a, f)"))
    with pytest.raises(HostOrchestratorError, match=r"2 chip orchestrations \(chip, g\)"):
        _ = chips.entry
    kernels = programs.program("@pl.program\nclass P:\n" + method(KERNEL, "f(self):"))
    with pytest.raises(HostOrchestratorError, match="neither a host orchestrator nor"):
        _ = kernels.entry


@pytest.mark.parametrize(
    ("kind", "message", "text"),
    [
        (SignatureError, "has no functions", "@pl.program\nclass P:\n    pass"),
        (SignatureError, r"P\.helper isn't marked", f"{FUNCTIONS}    def helper(self): pass"),
        (SyntaxUnsupported, "has a base class", "class B: pass\n@pl.program\nclass P(B):\n    pass"),
        (SignatureError, "marks a class", "pl.program(3)"),
        (SignatureError, "marks functions written with def", "pl.function(level=pl.Level.CHIP)(len)"),
        (TypeMismatch, "expected 1 to 5 dimensions", "pl.Tensor[[], pl.FP32]"),
        (TypeMismatch, "expected a positive int or a pl.dynamic, found 0", "pl.Tensor[[0], pl.FP32]"),
        (TypeMismatch, "found True", "pl.Tensor[[True], pl.FP32]"),
        (TypeMismatch, "expected a dtype such as pl.FP32", "pl.Tensor[[4], float]"),
        (TypeMismatch, "expected a dtype such as pl.FP32, found pl.INDEX", "pl.Tensor[[4], pl.INDEX]"),
        (TypeMismatch, r"expected pl\.Tensor\[\[rows", "pl.Tensor[4]"),
        (TypeMismatch, "two positive ints", "pl.Tile[[4], pl.FP32]"),
        (TypeMismatch, "expected a dtype such as pl.INT64", "pl.Scalar[3]"),
        (TypeMismatch, "expected a name", "pl.dynamic('two words')"),
        (SignatureError, r"pl\.Out takes a pl\.Tensor", "pl.Out[pl.Scalar[pl.INT64]]"),
        (SyntaxUnsupported, r"pl\.load has a meaning only inside", "pl.load(1, 2)"),
        (SyntaxUnsupported, r"pl\.range has a meaning only inside", "pl.range(2)"),
    ],
)
def test_what_is_wrong_when_python_runs_it_is_an_error_at_that_line(programs, kind, message, text):
    with pytest.raises(kind, match=message) as caught:
        programs.program(text)
    assert caught.value.file is not None
    assert caught.value.file.endswith("module_1.py")


@pytest.mark.parametrize(
    ("kind", "message", "text"),
    [
        (SyntaxUnsupported, "f is async", "@mark\nasync def f(self): pass"),
        (SyntaxUnsupported, "f is async", "@mark\nasync def f(self):\n    yield 1"),
        (SignatureError, "len has another decorator", "@mark\n@functools.wraps(len)\ndef f(self): pass"),
        (SignatureError, "marks functions written with def", "mark(lambda self: None)"),
    ],
)
def test_what_is_no_plain_method_is_refused(programs, kind, message, text):
    with pytest.raises(kind, match=message):
        programs.program(f"import functools\nmark = pl.function(level=pl.Level.CHIP)\n{text}")


def test_a_method_can_not_be_called_by_itself(programs):
    text = "import pypto.language as pl\n@pl.function(type=pl.FunctionType.InCore)\ndef f(self): pass\nf()"
    with pytest.raises(SignatureError, match="f can't be called by itself") as caught:
        programs.run(text)
    assert (caught.value.line, caught.value.column) == (4, 0)


def test_errors_show_no_frame_of_the_compiler(programs):
    with pytest.raises(PyptoError) as caught:
        programs.kernel("x = nothing")
    assert [entry.name for entry in caught.traceback][-1] == "program"


def test_a_language_name_that_does_not_exist_is_an_attribute_error(programs):
    with pytest.raises(AttributeError, match=r"pl\.Tensr is no operation of the language; did you mean 'Tensor'"):
        programs.run("import pypto.language as pl\npl.Tensr")
