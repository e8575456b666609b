"""The attention models, and what feeds, trains and serves them.

Built on ``tinygrad_attn``, which knows nothing of them. The package's one name is ``tinygrad_attn_models``, as it is
installed: ``models`` would stand in the way of a user's own. In a checkout Python finds this folder as ``models`` too;
that name leads here, so that no class is there twice.
"""

if __name__ == "models":
    import importlib.util
    import sys

    _spec = importlib.util.spec_from_file_location(
        "tinygrad_attn_models", __file__, submodule_search_locations=__path__
    )
    assert _spec is not None and _spec.loader is not None
    sys.modules["models"] = sys.modules["tinygrad_attn_models"] = importlib.util.module_from_spec(_spec)
    _spec.loader.exec_module(sys.modules["models"])
