"""What a program imports stands in `contextune` itself."""

import importlib
import pkgutil

import contextune
from contextune import async_handles, errors, handles, models
from contextune.models.answered import Answered


def test_every_public_type_is_exported() -> None:
    modules = [
        importlib.import_module(f"{models.__name__}.{one.name}") for one in pkgutil.iter_modules(models.__path__)
    ]
    public = {
        name
        for module in (*modules, handles, async_handles, errors)
        for name, found in vars(module).items()
        if isinstance(found, type)
        and found.__module__ == module.__name__
        and name.isidentifier()
        and not name.startswith("_")
    }
    inner = {Answered.__name__, "BatchLine"}
    assert public - inner - set(contextune.__all__) == set()
