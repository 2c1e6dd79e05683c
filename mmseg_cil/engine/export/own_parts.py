"""Naming parts of this package in a config that MMSegmentation alone is to read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmseg_cil.registry import MODELS, SCOPE, TRANSFORMS, VISUALIZERS

#: The module that a config imports for these parts: its registries import a part at the look-up.
MODULE = 'mmseg_cil.registry'


def with_own_parts(plain: Mapping[str, Any]) -> dict[str, Any]:
    """Return a config whose parts of this package are found from MMSegmentation's scope.

    The types of these parts get the scope ``mmseg_cil``, and ``custom_imports`` imports the
    registries. A config without such parts is returned as it is, so that it loads where this
    package is not installed.

    Args:
        plain: Config in the scope of MMSegmentation.
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
    """Copy a config with the scope before every type of this package, and note these types."""
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
    """Return whether a name without scope is in our registries, and not in MMSegmentation's."""
    for registry in (MODELS, TRANSFORMS, VISUALIZERS):
        registry.import_from_location()
        parent = registry.parent
        if name in registry.module_dict and (parent is None or name not in parent.module_dict):
            return True
    return False
