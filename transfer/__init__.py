"""From a Kuzushiji image to modern strokes: `KuzushijiTransfer.load().transfer(images)`.

Most programs need only `transfer.inference.pipeline` (the model and its `Result`) and
`transfer.inference.images`, which turns any picture into what the model takes. The command line is
`transfer.cli`.

>>> from transfer import KuzushijiTransfer
>>> from transfer.inference.images import load_image
>>> [result] = KuzushijiTransfer.load().transfer(load_image("examples/hana_U+82B1.png"), samples=2)
>>> result.candidates[0][0], result.verdict
('花', 'sure')
>>> result.save("hana.svg").name, result.svg().count("<path") == len(result.strokes[0])
('hana.svg', True)
>>> result.heatmap(128).shape, result.stroke_uncertainty().shape == (len(result.strokes[0]),)
((128, 128, 3), True)
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transfer.inference.pipeline import KuzushijiTransfer as KuzushijiTransfer
    from transfer.inference.result import Result as Result


def __getattr__(name: str):
    # Lazily, so that `kuzushiji-transfer --help` and the scripts do not wait for jax.
    if name in ("KuzushijiTransfer", "Result"):
        from transfer.inference import pipeline

        return getattr(pipeline, name)
    raise AttributeError(f"module 'transfer' has no attribute {name!r}")
