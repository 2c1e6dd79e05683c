"""Naming parts of this package in a config that MMSegmentation alone is to read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmseg_cil.registry import MODELS, SCOPE, TRANSFORMS, VISUALIZERS

#: What a config imports for them: the registries, which import the parts where they are looked up.
MODULE = 'mmseg_cil.registry'


def with_own_parts(plain: Mapping[str, Any]) -> dict[str, Any]:
    """Return a config in which our networks and transforms are found from MMSegmentation's scope.

    Their types get the scope ``mmseg_cil``, and ``custom_imports`` imports it. A config without
    such parts is returned as it is, so that it loads where this package is not installed.

    Args:
        plain: In the scope of MMSegmentation.
    """
    found: set[str] = set()
    scoped: dict[str, Any] = _scoped(plain, found)
    if not found:
        return dict(plain)
    imports = dict(scoped.get('custom_imports') or {})
    modules = imports.get('imports') or []
    listed = [modules] if isinstance(modules, str) else list(modules)
    imports['imports'] = listed if MODULE in listed else [*listed, MODULE]
    imports.setdefault('allow_failed_imports', False)
    return {**scoped, 'custom_imports': imports}


def _scoped(node: Any, found: set[str]) -> Any:
    """Copies a config with the scope before every type of ours, and notes these."""
    if isinstance(node, Mapping):
        copy = {key: _scoped(value, found) for key, value in node.items()}
        name = str(copy.get('type', '')).removeprefix(f'{SCOPE}.')
        if _is_ours(name):
            copy['type'] = f'{SCOPE}.{name}'
            found.add(name)
        return copy
    if isinstance(node, (list, tuple)):
        return type(node)(_scoped(part, found) for part in node)
    return node


def _is_ours(name: str) -> bool:
    """Whether a name without scope is of our registries, and not of those of MMSegmentation."""
    for registry in (MODELS, TRANSFORMS, VISUALIZERS):
        registry.import_from_location()
        parent = registry.parent
        if name in registry.module_dict and (parent is None or name not in parent.module_dict):
            return True
    return False
