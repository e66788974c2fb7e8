"""From a Kuzushiji image to modern strokes: `KuzushijiTransfer.load().transfer(images)`."""


def __getattr__(name: str):
    # Lazily, so that `kuzushiji-transfer --help` and the scripts do not wait for jax.
    if name in ("KuzushijiTransfer", "Result"):
        from transfer import pipeline

        return getattr(pipeline, name)
    raise AttributeError(f"module 'transfer' has no attribute {name!r}")


__all__ = ["KuzushijiTransfer", "Result"]
