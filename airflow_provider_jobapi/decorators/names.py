# SPDX-License-Identifier: Apache-2.0
"""Find the names that a statement uses, binds and changes, with Python's own symbol tables."""

from __future__ import annotations

import ast
import copy
import symtable
from collections.abc import Iterator

Scope = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef

HAVE_A_SCOPE = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def uses(statement: ast.stmt, *, fields: bool) -> set[str]:
    """The global names that a statement uses, when it runs and when what it defines is called.

    :param fields: Whether the types of classes' fields count: dataclasses and pydantic may read them.
    """
    bare = AnnotationsAsText(fields=not fields).visit(copy.deepcopy(statement))
    table = symtable.symtable(ast.unparse(bare), "<job>", "exec")
    top = {each.get_name() for each in table.get_symbols() if each.is_referenced()}
    inside = {each.get_name() for child in _scopes(table) for each in child.get_symbols() if each.is_global()}
    return (top | inside) - binds(statement)


def binds(statement: ast.stmt) -> set[str]:
    """The names that a statement binds in its own scope."""
    table = symtable.symtable(ast.unparse(statement), "<job>", "exec")
    return {each.get_name() for each in table.get_symbols() if each.is_assigned() or each.is_imported()}


def binds_inside(scope: Scope) -> set[str]:
    """The local names of a function."""
    own = copy.copy(scope)
    own.decorator_list = []
    table = symtable.symtable(ast.unparse(own), "<job>", "exec")
    return {each.get_name() for child in _scopes(table, scope.name) for each in child.get_symbols() if each.is_local()}


def _scopes(table: symtable.SymbolTable, name: str | None = None) -> Iterator[symtable.SymbolTable]:
    """All inner scopes; with a name, the outermost of that name: those of a function and of its type parameters."""
    for child in table.get_children():
        if name in {None, child.get_name()}:
            yield child
            yield from _scopes(child, name)


def in_annotations(statement: ast.stmt) -> set[str]:
    """The names in annotations, also in those that are texts."""
    found = set()
    for node in ast.walk(statement):
        for annotation in (getattr(node, "annotation", None), getattr(node, "returns", None)):
            for each in ast.walk(annotation) if annotation else ():
                text = each.value if isinstance(each, ast.Constant) and isinstance(each.value, str) else ""
                found |= {each.id} if isinstance(each, ast.Name) else _in_text(text)
    return found


def _in_text(text: str) -> set[str]:
    try:
        return {each.id for each in ast.walk(ast.parse(text.strip(), mode="eval")) if isinstance(each, ast.Name)}
    except (SyntaxError, ValueError):
        return set()


class AnnotationsAsText(ast.NodeTransformer):
    """Turns annotations into texts, so that they are not evaluated.

    :param fields: Whether also those of class fields.
    """

    def __init__(self, *, fields: bool) -> None:
        self._fields = fields

    def visit_arg(self, node: ast.arg) -> ast.arg:
        node.annotation = _as_text(node.annotation)
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.returns = _as_text(node.returns)
        return self.generic_visit(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        node.returns = _as_text(node.returns)
        return self.generic_visit(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        fields = [(each, each.annotation) for each in node.body if isinstance(each, ast.AnnAssign)]
        self.generic_visit(node)
        for field, annotation in [] if self._fields else fields:
            field.annotation = annotation
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        node.annotation = ast.Constant(ast.unparse(node.annotation))
        return self.generic_visit(node)


def _as_text(annotation: ast.expr | None) -> ast.expr | None:
    return (
        annotation
        if annotation is None or isinstance(annotation, ast.Constant)
        else ast.Constant(ast.unparse(annotation))
    )


def part_of(expression: ast.expr) -> str:
    """The name of which an expression is an attribute, an item, or the result of a method; else an empty text."""
    deep = False
    while isinstance(expression, ast.Attribute | ast.Subscript | ast.Call):
        deep = deep or not isinstance(expression, ast.Call)
        expression = expression.func if isinstance(expression, ast.Call) else expression.value
    return expression.id if deep and isinstance(expression, ast.Name) else ""


def changes(node: ast.AST) -> Iterator[tuple[str, int]]:
    """The names whose attributes or items a statement binds, or whose methods it calls, with their lines."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
        return
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        yield part_of(node.value), node.lineno
    elif isinstance(node, ast.Attribute | ast.Subscript) and not isinstance(node.ctx, ast.Load):
        yield part_of(node), node.lineno
    for child in ast.iter_child_nodes(node):
        yield from changes(child)
