"""What the other packages use."""


def register_all_modules(init_default_scope: bool = True) -> None:
    """Import all types of hsakd, for ``mmengine.hub.get_model`` and others who ask packages to.

    Args:
        init_default_scope: Take types without a prefix for hsakd's from here on.
    """
    from mmengine.registry import init_default_scope as set_default_scope

    import hsakd.datasets
    import hsakd.engine
    import hsakd.evaluation
    import hsakd.models  # noqa: F401

    hsakd.setup()
    if init_default_scope:
        set_default_scope('hsakd')
