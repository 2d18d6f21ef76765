"""Programs in archives of ``torch.export.save``, read and run without PyTorch's own loader.

``torch.export.load`` unpickles parts of an archive, and evaluates its expressions, guards and names as Python code, so
a file from elsewhere could run any code. This module reads only numbers, names and raw tensors, and calls only the
operators of a fixed list.
"""

import ast
import io
import json
import operator
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

#: Numbers that stand for dtypes, for the only layout, and for the kind of an argument in an archive.
_DTYPES = {
    1: torch.uint8,
    5: torch.int64,
    6: torch.float16,
    7: torch.float32,
    12: torch.bool,
    13: torch.bfloat16,
}
_STRIDED = 7
_POSITIONAL = 1
#: Kinds of arguments that are written as they are.
_PLAIN = ("as_int", "as_ints", "as_float", "as_floats", "as_bool", "as_bools", "as_string")
#: Arithmetic with the sizes of tensors.
_ARITHMETIC: dict[str, Callable[..., Any]] = {
    "_operator.add": operator.add,
    "_operator.floordiv": operator.floordiv,
    "_operator.mod": operator.mod,
    "_operator.mul": operator.mul,
    "_operator.sub": operator.sub,
    "torch.sym_max": max,
    "torch.sym_min": min,
}
#: Operators of exported models. They compute with tensors only: none opens a file or runs a program.
_OPERATORS = {
    "__and__.Tensor", "_assert_tensor_metadata.default", "abs.default", "adaptive_avg_pool2d.default", "add.Tensor",
    "alias.default", "amax.default", "arange.default", "avg_pool2d.default", "batch_norm.default", "bmm.default",
    "cat.default", "clamp.default", "contiguous.default", "conv2d.default", "conv_transpose2d.input", "div.Tensor",
    "expand.default", "feature_dropout.default", "feature_dropout_.default", "flatten.using_ints",
    "floor_divide.default", "ge.Tensor", "gelu.default", "group_norm.default", "layer_norm.default",
    "linear.default", "lt.Scalar", "lt.Tensor", "matmul.default", "mul.Tensor", "new_empty.default",
    "new_zeros.default", "numpy_T.default", "ones.default", "pad.default", "permute.default", "relu.default",
    "relu_.default", "reshape.default", "rsub.Scalar", "scaled_dot_product_attention.default", "sigmoid.default",
    "slice.Tensor", "softmax.int", "squeeze.dim", "stack.default", "sub.Tensor", "sum.dim_IntList", "sym_size.int",
    "t.default", "to.dtype", "transpose.int", "unbind.int", "unflatten.int", "unsqueeze.default",
    "upsample_bicubic2d.vec", "upsample_bilinear2d.vec", "upsample_nearest2d.vec", "view.default", "where.self",
    "zeros_like.default",
}  # fmt: skip
#: Symbols in guards.
_SYMBOLS: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}


@dataclass(frozen=True)
class _Value:
    """A reference to a value of the graph."""

    name: str


@dataclass(frozen=True)
class _Call:
    """One operator of the graph.

    Attributes:
        function: the operator.
        args, kwargs: its arguments: constants, references and lists of them.
        results: names of the results, or of the items of the only result if it is a list.
        last: names of the values that no later call needs.
    """

    function: Callable[..., Any]
    args: list[Any]
    kwargs: dict[str, Any]
    results: list[str]
    last: list[str]


class UnsafeArchiveError(ValueError):
    """An archive holds something that only PyTorch's own loader accepts, which can run code."""


class Program:
    """A program that ``torch.export.save`` wrote. It is called with a batch and returns a list of tensors.

    Args:
        archive: content of the file.
        extra: name of an extra file in the archive.

    Attributes:
        extra: text of that file; None if there is none.

    Raises:
        UnsafeArchiveError: The archive holds something that only PyTorch's own loader accepts.
        ValueError: The archive is damaged.
    """

    def __init__(self, archive: bytes, *, extra: str) -> None:
        try:
            members = _Members(archive)
            members.check_sample_inputs()
            self.extra = members.bytes(f"extra/{extra}").decode() if f"extra/{extra}" in members else None
            self._read(members)
        except (zipfile.BadZipFile, LookupError, TypeError, AttributeError, OverflowError, RuntimeError) as error:
            raise ValueError(f"the archive is damaged: {type(error).__name__}: {error}") from error

    def _read(self, members: "_Members") -> None:
        model = members.json("models/model.json")
        module = model["graph_module"]
        graph, signature = module["graph"], module["signature"]
        tensors = dict(members.tensors("weights")) | dict(members.tensors("constants"))
        self._values: dict[str, Tensor] = {}
        inputs = []
        for spec in signature["input_specs"]:
            ((kind, fields),) = spec.items()
            if kind == "user_input":
                inputs.append(fields["arg"]["as_tensor"]["name"])
            elif kind in ("parameter", "buffer", "tensor_constant"):
                self._values[fields["arg"]["name"]] = tensors[fields[f"{kind}_name"]]
            else:
                raise UnsafeArchiveError(f"inputs of the kind {kind!r} are not supported")
        (self._input,) = inputs
        self._meta = graph["tensor_values"][self._input]
        self._guards = [_guard(text, self._input) for text in model.get("guards_code", [])]
        self._accepted: tuple[int, ...] | None = None
        outputs = []
        for spec in signature["output_specs"]:
            ((kind, fields),) = spec.items()
            if kind != "user_output":
                raise UnsafeArchiveError(f"outputs of the kind {kind!r} are not supported")
            outputs.append(fields["arg"]["as_tensor"]["name"])
        self._outputs = outputs
        self._calls = _calls(graph["nodes"], keep={*self._values, *outputs})

    def __call__(self, images: Tensor) -> list[Tensor]:
        self._check(images)
        values: dict[str, Any] = {**self._values, self._input: images}
        for call in self._calls:
            args = [_look_up(argument, values) for argument in call.args]
            kwargs = {name: _look_up(argument, values) for name, argument in call.kwargs.items()}
            result = call.function(*args, **kwargs)
            values.update(zip(call.results, result if isinstance(result, list | tuple) else [result], strict=False))
            for name in call.last:
                del values[name]
        return [values[name] for name in self._outputs]

    def _check(self, images: Tensor) -> None:
        """Check that a batch has the dtype and a shape that the program was traced for.

        Raises:
            ValueError: It has another dtype or shape.
        """
        shape, dtype = tuple(images.shape), _DTYPES[self._meta["dtype"]]
        if images.dtype == dtype and shape == self._accepted:
            return
        sizes = [size.get("as_int") for size in self._meta["sizes"]]
        fits = len(shape) == len(sizes) and all(each in (None, side) for each, side in zip(sizes, shape, strict=True))
        if images.dtype != dtype or not fits or not all(guard(shape) for guard in self._guards):
            expected = ", ".join("any" if each is None else str(each) for each in sizes)
            raise ValueError(f"the input must be {dtype} of shape ({expected}), not {images.dtype} of shape {shape}")
        self._accepted = shape


class _Members:
    """The members of an archive.

    Raises:
        ValueError: Members are compressed, overlap or have the same name.
    """

    def __init__(self, archive: bytes) -> None:
        self._zip = zipfile.ZipFile(io.BytesIO(archive))
        entries = self._zip.infolist()
        # PyTorch does not compress. Without this check, a small file could claim terabytes.
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
            raise ValueError("its members are compressed, which PyTorch does not write")
        if sum(entry.file_size for entry in entries) > len(archive):
            raise ValueError("its members are larger than the file")
        root = entries[0].filename.partition("/")[0] if entries else ""
        self._entries = {entry.filename.removeprefix(f"{root}/"): entry for entry in entries}
        if len(self._entries) != len(entries):
            raise ValueError("several members have one name")

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    def bytes(self, name: str) -> bytes:
        """Return the content of a member."""
        return self._zip.read(self._entries[name])

    def json(self, name: str) -> Any:
        """Return the content of a member that is JSON."""
        if name not in self:
            raise UnsafeArchiveError(f"it has no {name}; it may be the archive of another version of PyTorch")
        return json.loads(self.bytes(name))

    def check_sample_inputs(self) -> None:
        """Check the pickle of an example input, which ordinary archives hold, too; nothing here needs it.

        Raises:
            UnsafeArchiveError: It holds more than tensors.
        """
        for name in self._entries:
            if name.startswith("data/sample_inputs/"):
                try:
                    torch.load(io.BytesIO(self.bytes(name)), weights_only=True)
                except Exception:  # PyTorch raises many types, with the advice to load with weights_only=False
                    raise UnsafeArchiveError(
                        f"{name} holds a pickle of more than tensors, which could run any code"
                    ) from None

    def tensors(self, kind: str) -> Iterator[tuple[str, Tensor]]:
        """Yield the names and values of the tensors of a kind: weights or constants.

        Raises:
            UnsafeArchiveError: Something is a pickle, or no tensor.
        """
        for name, entry in self.json(f"data/{kind}/model_{kind}_config.json")["config"].items():
            path, meta = entry["path_name"], entry["tensor_meta"]
            if entry["use_pickle"] or not path.startswith(("weight_", "tensor_")):
                raise UnsafeArchiveError(f"{kind[:-1]} {name} is a pickle, which could run any code")
            sizes, strides = ([each["as_int"] for each in meta[key]] for key in ("sizes", "strides"))
            flat = torch.frombuffer(bytearray(self.bytes(f"data/{kind}/{path}")), dtype=_DTYPES[meta["dtype"]])
            # The copy lies at an address that suits vector instructions.
            yield name, flat.as_strided(sizes, strides, meta["storage_offset"]["as_int"]).clone()


def _calls(nodes: list[dict[str, Any]], *, keep: set[str]) -> list[_Call]:
    """Return the operators of a graph.

    Args:
        nodes: the nodes, in the order of computation.
        keep: names of values that are needed after the last operator.

    Raises:
        UnsafeArchiveError: An operator or an argument is not supported.
    """
    calls: list[_Call] = []
    needed = set(keep)
    for node in reversed(nodes):
        arguments = [(each["name"], _argument(each["arg"]), each["kind"]) for each in node["inputs"]]
        args = [value for _, value, kind in arguments if kind == _POSITIONAL]
        kwargs = {name: value for name, value, kind in arguments if kind != _POSITIONAL}
        results = _results(node["outputs"])
        used = {*_names([*args, *kwargs.values()]), *results}
        calls.append(_Call(_function(node["target"]), args, kwargs, results, sorted(used - needed)))
        needed |= used
    return calls[::-1]


def _function(target: str) -> Callable[..., Any]:
    if target in _ARITHMETIC:
        return _ARITHMETIC[target]
    name = target.removeprefix("torch.ops.aten.")
    if name not in _OPERATORS:
        raise UnsafeArchiveError(f"the operator {target} is not one of those that volo runs from a file")
    packet, overload = name.split(".")
    function: Callable[..., Any] = getattr(getattr(torch.ops.aten, packet), overload)
    return function


def _argument(argument: dict[str, Any]) -> Any:
    """Return an argument of an operator: a constant, a reference to a value, or a list of those."""
    ((kind, value),) = argument.items()
    if kind == "as_none":
        return None
    if kind in _PLAIN:
        return value
    if kind == "as_tensor":
        return _Value(value["name"])
    if kind == "as_tensors":
        return [_Value(each["name"]) for each in value]
    if kind == "as_sym_int":
        return _size(value)
    if kind == "as_sym_ints":
        return [_size(each) for each in value]
    if kind == "as_device" and value["type"] == "cpu":
        return torch.device("cpu")
    if kind == "as_scalar_type":
        return _DTYPES[value]
    if kind == "as_layout" and value == _STRIDED:
        return torch.strided
    raise UnsafeArchiveError(f"the argument {argument} is not supported")


def _size(size: dict[str, Any]) -> Any:
    return _Value(size["as_name"]) if "as_name" in size else size["as_int"]


def _results(outputs: list[dict[str, Any]]) -> list[str]:
    """Return the names of the results of an operator."""
    names: list[str] = []
    for output in outputs:
        ((kind, value),) = output.items()
        if kind not in ("as_tensor", "as_tensors", "as_sym_int"):
            raise UnsafeArchiveError(f"the result {output} is not supported")
        names += [each["name"] for each in value] if kind == "as_tensors" else value.values()
    return names


def _names(arguments: Iterable[Any]) -> Iterator[str]:
    """Yield the names of the values that arguments refer to."""
    for argument in arguments:
        if isinstance(argument, _Value):
            yield argument.name
        elif isinstance(argument, list):
            yield from _names(argument)


def _look_up(argument: Any, values: dict[str, Any]) -> Any:
    """Return an argument with values in the place of references."""
    if isinstance(argument, _Value):
        return values[argument.name]
    return [_look_up(each, values) for each in argument] if isinstance(argument, list) else argument


def _guard(text: str, name: str) -> Callable[[tuple[int, ...]], Any]:
    """Return a function of a batch's shape that tells whether a guard holds.

    Args:
        text: the guard: a comparison of sizes of the input, in Python.
        name: name of the input.

    Raises:
        UnsafeArchiveError: It contains anything but arithmetic with sizes.
    """
    try:
        return _arithmetic(ast.parse(text.replace(f"L[{name!r}].size()", "shape"), mode="eval").body)
    except SyntaxError as error:
        raise UnsafeArchiveError(f"the guard {text!r} is not supported") from error


def _arithmetic(node: ast.expr) -> Callable[[tuple[int, ...]], Any]:
    match node:
        case ast.Constant(value=int() as number):
            return lambda shape: number
        case ast.Subscript(value=ast.Name(id="shape"), slice=ast.Constant(value=int() as index)):
            return lambda shape: shape[index]
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            inner = _arithmetic(operand)
            return lambda shape: -inner(shape)
        case (
            ast.BinOp(left=left, op=symbol, right=right) | ast.Compare(left=left, ops=[symbol], comparators=[right])
        ) if type(symbol) in _SYMBOLS:
            function, first, second = _SYMBOLS[type(symbol)], _arithmetic(left), _arithmetic(right)
            return lambda shape: function(first(shape), second(shape))
        case ast.BoolOp(op=ast.Or(), values=values):
            several = [_arithmetic(each) for each in values]
            return lambda shape: any(each(shape) for each in several)
        case ast.Call(func=ast.Attribute(value=ast.Name(id="torch"), attr=name), args=values, keywords=[]) if (
            f"torch.{name}" in _ARITHMETIC
        ):
            largest, several = _ARITHMETIC[f"torch.{name}"], [_arithmetic(each) for each in values]
            return lambda shape: largest(each(shape) for each in several)
    raise UnsafeArchiveError(f"the guard {ast.unparse(node)!r} is not supported")
