"""Describes an invalid input value by its place and its expected type, never by the value itself.

graphql-core puts values into its messages (3.3.2, execution/values.py and utilities/validate_input_value.py;
checked 2026-11-29). This module reads only the part of graphql-core's message that precedes the invalid value. The
part before the invalid value contains only names from the schema or the document.
"""

import re
from collections.abc import Sequence
from typing import Any

from graphql import (
    ArgumentNode,
    GraphQLError,
    GraphQLInputType,
    GraphQLSchema,
    ProvidedRequiredArgumentsRule,
    ValueNode,
    ValuesOfCorrectTypeRule,
    VariableDefinitionNode,
    VisitorAction,
    get_named_type,
    get_nullable_type,
    is_input_object_type,
    is_input_type,
    is_list_type,
    type_from_ast,
)
from graphql.utilities import validate_input_literal

from app.errors import DetailValue

_NAME = "[_A-Za-z][_0-9A-Za-z]*"
_PATH = rf"(?: at (?P<path>(?:\.{_NAME}|\[\d+\])+))?"
_STEP = re.compile(rf"\.({_NAME})|\[(\d+)\]")
_VARIABLE = re.compile(
    rf"Variable '\$(?P<name>{_NAME})' has invalid (?:default )?value{_PATH}: (?P<rest>.*)", re.DOTALL
)
_ARGUMENT = re.compile(
    rf"Argument '(?P<name>{_NAME})' has invalid (?:default )?value{_PATH}: (?P<rest>.*)", re.DOTALL
)
_ARGUMENT_MISSING = re.compile(
    rf"Argument '(?P<name>{_NAME})' of required type '(?P<type>[^']+)' was not provided"
)
_ARGUMENT_OMITTED = re.compile(
    rf"Argument '[^']*\((?P<name>{_NAME}):\)' of type '(?P<type>[^']+)' is required"
)
_FIELD_MISSING = re.compile(
    rf"Expected value of type '{_NAME}' to include required field '(?P<field>{_NAME})'"
)
_FIELD_UNKNOWN = re.compile(
    rf"Expected value of type '(?P<type>{_NAME})' not to include unknown field '(?P<field>{_NAME})'"
)
_TYPE = re.compile(
    rf"Expected (?:a )?(?:value|variable '\${_NAME}')(?: provided)? (?:of|to)(?: non-null)? type '(?P<type>[^']+)'"
)
_NOT_ONE_FIELD = re.compile(rf"(?:Within|.* for) OneOf Input Object type '(?P<type>{_NAME})'", re.DOTALL)
_MAX_NAME_LENGTH = 64

Refused = tuple[str, dict[str, DetailValue]]
"""A reason and its detail."""


class InvalidLiteralError(GraphQLError):
    """A literal in a GraphQL document does not have the expected type."""

    def __init__(self, refused: Refused, nodes: Any) -> None:
        super().__init__(refused[0], nodes)
        self.refused = refused


class PlacesOfLiterals(ValuesOfCorrectTypeRule):
    """graphql-core's rule for the types of literals, with errors that name the place and the expected type instead
    of the value.
    """

    _place = ""

    def enter_argument(self, node: ArgumentNode, *_: Any) -> None:
        """Remember the argument, because its literals are visited next."""
        self._place = node.name.value

    def enter_variable_definition(self, node: VariableDefinitionNode, *_: Any) -> None:
        """Remember the variable, because its default value is visited next."""
        self._place = f"${node.variable.name.value}"

    def is_valid_value_node(self, node: ValueNode, input_type: GraphQLInputType | None) -> VisitorAction:
        """Report the errors of a whole literal, so that graphql-core does not visit the parts of the literal."""

        def report(error: GraphQLError, path: list[str | int]) -> None:
            assert input_type is not None  # noqa: S101 - else nothing is validated
            refused = _refused("bad_literal", self._place, path, input_type, error.message)
            self.report_error(InvalidLiteralError(refused, error.nodes or node))

        if input_type is not None:
            validate_input_literal(node, input_type, report, hide_suggestions=True)
        return self.SKIP


class RequiredArguments(ProvidedRequiredArgumentsRule):
    """graphql-core's rule for required arguments, with errors that name the argument and its type. A missing
    argument is the same mistake as a variable without a value.
    """

    def report_error(self, error: GraphQLError) -> None:
        """Report a missing argument of a field or of a directive."""
        missing = _ARGUMENT_OMITTED.match(error.message)
        if missing is None:
            super().report_error(error)
            return
        name = missing["name"]
        detail: dict[str, DetailValue] = {
            "argument": name,
            "input_path": name,
            "expected_type": missing["type"],
        }
        super().report_error(InvalidLiteralError(("bad_argument", detail), error.nodes))


def bad_variable(schema: GraphQLSchema, error: GraphQLError, node: VariableDefinitionNode) -> Refused:
    """Return the reason and detail of the error for a variable that graphql-core could not coerce to its type."""
    name = node.variable.name.value
    declared = type_from_ast(schema, node.type)
    matched = _VARIABLE.match(error.message)
    if declared is None or not is_input_type(declared):
        return "bad_input", {}
    if matched is None:
        return "bad_variable", {"variable": name, "input_path": f"${name}", "expected_type": str(declared)}
    path = _steps(matched["path"] or "")
    reason, detail = _refused("bad_variable", f"${name}", path, declared, matched["rest"])
    return reason, {"variable": name} | detail


def bad_argument(message: str) -> Refused | None:
    """Return the reason and detail of the error for an argument that graphql-core could not coerce to its type.
    Returns None if the message is about an error of a different kind.
    """
    missing = _ARGUMENT_MISSING.match(message)
    if missing is not None:
        name, expected = missing["name"], missing["type"]
        return "bad_argument", {"argument": name, "input_path": name, "expected_type": expected}
    matched = _ARGUMENT.match(message)
    if matched is None:
        return None
    place = matched["name"] + (matched["path"] or "")
    several = _NOT_ONE_FIELD.match(matched["rest"])
    if several is not None:
        detail: dict[str, DetailValue] = {"input_path": place, "expected_type": several["type"]}
        return "not_one_field", {"argument": matched["name"]} | detail
    typed = _TYPE.match(matched["rest"])
    if typed is None:
        return "bad_input", {}
    return "bad_argument", {
        "argument": matched["name"],
        "input_path": place,
        "expected_type": typed["type"],
    }


def _refused(
    reason: str, root: str, path: Sequence[str | int], declared: GraphQLInputType, message: str
) -> Refused:
    """Return the reason and detail of an error for the input value at a path, read from graphql-core's message."""
    unknown = _FIELD_UNKNOWN.match(message)
    if unknown is not None and len(unknown["field"]) <= _MAX_NAME_LENGTH:
        place = _written(root, [*path, unknown["field"]])
        return "unknown_input_field", {"input_path": place, "expected_type": unknown["type"]}
    missing = _FIELD_MISSING.match(message)
    if missing is not None:
        path = [*path, missing["field"]]
    several = _NOT_ONE_FIELD.match(message)
    if several is not None:
        if str(get_named_type(_type_at(declared, path))) != several["type"]:
            path = path[:-1]  # the one field that is given is null
        return "not_one_field", {"input_path": _written(root, path), "expected_type": several["type"]}
    return reason, {"input_path": _written(root, path), "expected_type": str(_type_at(declared, path))}


def _type_at(declared: GraphQLInputType, path: Sequence[str | int]) -> GraphQLInputType:
    """Return the expected type at a path inside an input type. The path contains no index if the client gave a
    single value for a list.
    """
    expected = declared
    for step in path:
        inner: Any = get_nullable_type(expected)
        while isinstance(step, str) and is_list_type(inner):
            inner = get_nullable_type(inner.of_type)
        if isinstance(step, int) and is_list_type(inner):
            expected = inner.of_type
        elif is_input_object_type(inner) and step in inner.fields:
            expected = inner.fields[step].type
    return expected


def _steps(path: str) -> list[str | int]:
    return [name or int(index) for name, index in _STEP.findall(path)]


def _written(root: str, path: Sequence[str | int]) -> str:
    return root + "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
