"""The web pages of `kuzushiji-transfer serve` (one character, and `page.html` for whole pages), and
their small API. Nothing that is sent is kept.

`POST /api/transfer` takes a picture and answers with the result of `KuzushijiTransfer.transfer`.
The body is the file itself (any raster format that `transfer.inference.images` reads; the content
type is ignored), or a form (multipart/form-data) with one file in it:

    curl --data-binary @hana.png 'http://127.0.0.1:8000/api/transfer?samples=10&seed=0'
    curl -F image=@hana.png http://127.0.0.1:8000/api/transfer

| query | meaning | default |
|---|---|---|
| `samples` | drawings, 1 to 50 | 10 |
| `seed` | 0 to 2147483647; same picture and numbers, same strokes | 0 |
| `temperature` | of the pen, above 0 to 1 | the model's own |
| `top` | candidates listed, 1 to 100 | 10 |
| `forms` | which form leads if a character has several (国 and 國): `as-read`, `modern` or \
`old` | as-read |
| `pixels` | `1`: the body is no file but 4,096 bytes, \
the rows of a 64x64 image, ink 255 on paper 0, taken as it is | 0 |

The answer is JSON, and has the same bytes for the same question:

| name | value |
|---|---|
| `candidates` | `{character, code_point, probability, forms}`, the likeliest first; `forms` are \
the same of the character's other forms (國 for 国) |
| `kana` | `{character, code_point, probability}`, the likeliest hiragana and the probability that \
the picture is one at all; null if the weights know none |
| `drawings` | `{character, score, sample, strokes, svg}`, the best first; `strokes` are \
polylines `[[x, y], …]`, `box` = 109 units a side |
| `image` | 64 rows of 64 integers, the picture as it was read, ink 255: send it back with \
`pixels=1` and the answer is the same |
| `pixels` | 64 rows of 64 numbers in 0 to 1, the predicted picture of the kanji, ink 1 |
| `uncertainty` | 64 rows of 64 numbers in 0 to 0.5, the standard deviation of that picture over \
plausible readings |
| `verdict` | `sure`, `not sure`, `kana` or `not a kanji` |
| `familiarity` | 0 to 1, how much the picture is like Kuzushiji kanji (below 0.5: `not a kanji`); \
null if the weights cannot tell |
| `note` | what was done to the picture that a reader should know, or an empty text |
| `used` | left, top, right, bottom of the part of the picture that was read, in its pixels |
| `samples`, `seed`, `temperature`, `forms`, `box` | the numbers and the choice used |

`POST /api/old-hands?of=国國` takes the same picture (`pixels=1` too) and shows how old hands wrote up
to 60 kanji, with up to four forms of each, the nearest to the picture first:

| name | value |
|---|---|
| `source` | `painted` by the model (no historical images), `images` of the data folder (`serve \
--data DIR`), null where the weights have none |
| `hands` | kanji -> `{picture, painted, after, name, distance}`; `picture` is a PNG in a `data:` \
address, `name` that of an image in the data set, `after` `fonts` where the data set has no image |
| `attribution` | whose images they are, or an empty text |

`POST /api/picture` takes a page in a format that browsers do not show (TIFF, HEIC, JPEG 2000, PDF),
of at most 10,000 pixels a side and 100 MB, and answers with the same page as PNG. `page` chooses a
page of a PDF or TIFF, from 1; the header `Pages` gives their number. HEIC and PDF need the extras
`heic` and `pdf`.

`GET /api/health` says that the server is up, how many requests are waiting, and what its limits
are. `GET /api/examples` lists the pictures that come with the page: `{kanji, code_point, name,
url}`.

Every error is one line, `{"error": "…"}`: 400 (a bad number, an empty, damaged or blank picture, a
foreign Host), 403 (sent by another site's page), 404, 405, 408 (the upload takes too long), 413
(too many bytes or pixels), 415 (not a picture), 503 (too many requests are waiting; come back after
`Retry-After` seconds).

Pictures are decoded and drawn one at a time. So memory is bounded, and a picture gets bit for bit
the same drawings as it would alone.
"""

from __future__ import annotations


def app(model, **options):
    """The Starlette application around a `KuzushijiTransfer`. Options are as in
    `transfer.web.server.build`."""
    from transfer.web.server import build

    return build(model, **options)


def serve(
    host: str = "127.0.0.1",
    port: int = 8000,
    weights=None,
    hosts: tuple[str, ...] = (),
    max_bytes: int = 20_000_000,
    max_waiting: int = 32,
    data=None,
) -> int:
    """Serve the page until Ctrl-C; returns the exit code: 0, or 2 with one line on stderr.

    host: address to listen on; other machines reach the page only if this is not 127.0.0.1.
    port: 0 takes any free one.
    weights: runs or weights folder; None for the shipped weights. hosts: further names under which
    readers open the page (a proxy's, say).
    max_bytes: largest upload. max_waiting: requests in the queue before the next is turned away.
    data: data folder whose training images are shown beside the candidates; None for painted ones.
    """
    from transfer.web.listen import listen

    return listen(host, port, weights, hosts, max_bytes, max_waiting, data)


__all__ = ["app", "serve"]
