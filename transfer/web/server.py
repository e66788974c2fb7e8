"""The Starlette application: the two pages, their files, and the API's routes (documented in
`transfer.web`)."""

from __future__ import annotations

import asyncio
import io
import logging
import mimetypes
import time
from collections.abc import Callable
from importlib import metadata

import numpy as np
from PIL import Image, UnidentifiedImageError
from python_multipart import FormParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from transfer.inference import images
from transfer.reading_aids import FORM_CHOICES
from transfer.web import hands
from transfer.web.answer import answer, encode
from transfer.web.examples import STATIC, examples
from transfer.web.guard import HEADERS, Guard
from transfer.web.picture import page_number, to_png
from transfer.web.queue import Busy, Queue

UPLOAD_SECONDS = 60
BOOKS = 5  # times as many bytes as a character's picture may a file of pages have
ONE, SEVERAL = "crop the picture to one character", "save fewer pages in one file, or a smaller one"
MAX_PARTS = 100  # of a form; each costs the parser microseconds
logging.getLogger("python_multipart").setLevel(
    logging.ERROR
)  # it warns of every form that is not right; the client is told
# Some systems' tables say text/plain, and with nosniff a browser then runs nothing.
for kind, suffix in (("text/javascript", ".js"), ("text/css", ".css"), ("image/svg+xml", ".svg")):
    mimetypes.add_type(kind, suffix)


def build(
    model,
    host: str = "127.0.0.1",
    hosts: tuple[str, ...] = (),
    max_bytes: int = 20_000_000,
    max_waiting: int = 32,
    max_samples: int = 50,
) -> Starlette:
    """The application around `model` (a `KuzushijiTransfer`).

    host, hosts: names that a request may call this server by, beside localhost. max_bytes: largest
    upload. max_waiting: how many requests are held at once. max_samples: how many drawings one
    request may ask for.
    """
    queue = Queue(max_waiting, 8 * max_bytes)
    limits = {
        "bytes": max_bytes,
        "pixels": images.MAX_PIXELS,
        "side": images.MAX_SIDE,
        "samples": max_samples,
        "waiting": max_waiting,
    }

    async def work(
        request: Request, kind: str, make: Callable, most: int, advice: str = ONE
    ) -> Response:
        """The result of `make` for an upload of at most `most` bytes, when its turn comes: bytes,
        or bytes and headers."""
        try:
            declared = int(request.headers.get("content-length", most))
        except ValueError:
            declared = most
        with queue.place(min(max(declared, 0), most)):
            content = await upload(request, most, advice)
            start = time.monotonic()
            found = await queue.work(lambda: make(content), request.is_disconnected)
        if found is None:
            raise ClientDisconnect()
        found, headers = found if isinstance(found, tuple) else (found, {})
        timing = {"Server-Timing": f"all;dur={1000 * (time.monotonic() - start):.0f}"}
        return Response(found, media_type=kind, headers=timing | headers)

    async def transfer(request: Request) -> Response:
        parameters = question(request.query_params.multi_items(), max_samples)
        return await work(
            request,
            "application/json",
            lambda content: think(model, content, parameters),
            max_bytes,
        )

    async def old_hands(request: Request) -> Response:
        query = dict(request.query_params)
        of = hands.characters(query.pop("of", ""))
        pixels = question(query.items(), max_samples, ("pixels",))["pixels"]
        look = lambda content: read_image(content, pixels).image if model.old_hands else None
        return await work(
            request,
            "application/json",
            lambda content: encode(hands.answer(model, look(content), of)),
            max_bytes,
        )

    async def picture(request: Request) -> Response:
        number = page_number(request.query_params)
        make = lambda content: to_png(content, number)
        return await work(request, "image/png", make, BOOKS * max_bytes, SEVERAL)

    def health(request: Request) -> JSONResponse:
        return JSONResponse(
            {
                "status": "ready",
                "version": version(),
                "waiting": queue.waiting,
                "limits": limits,
                "temperature": model.temperature,
            }
        )

    def shown(request: Request) -> JSONResponse:
        return JSONResponse(examples())

    def page(request: Request) -> FileResponse:
        return FileResponse(STATIC / "index.html")

    def whole(request: Request) -> FileResponse:
        return FileResponse(STATIC / "page.html")

    async def busy(request: Request, error: Busy) -> JSONResponse:
        return JSONResponse({"error": str(error)}, 503, {"Retry-After": str(error.seconds)})

    async def refused(request: Request, error: HTTPException) -> JSONResponse:
        return JSONResponse({"error": error.detail}, error.status_code, error.headers)

    async def gone(request: Request, error: Exception) -> Response:
        return Response(status_code=400)  # nobody reads it

    async def broken(request: Request, error: Exception) -> JSONResponse:
        return JSONResponse(
            {"error": "the server made a mistake; its terminal shows which"}, 500, HEADERS
        )  # the guard is inside of this

    application = Starlette(
        routes=[
            Route("/", page),
            Route("/page.html", whole),
            Route("/api/transfer", transfer, methods=["POST"]),
            Route("/api/old-hands", old_hands, methods=["POST"]),
            Route("/api/picture", picture, methods=["POST"]),
            Route("/api/health", health),
            Route("/api/examples", shown),
            Mount("/static", StaticFiles(directory=STATIC)),
        ],
        middleware=[Middleware(Guard, host=host, hosts=hosts)],
        exception_handlers={
            Busy: busy,
            HTTPException: refused,
            ClientDisconnect: gone,
            Exception: broken,
        },
    )
    application.router.redirect_slashes = False  # /static is nothing, not a way to /static/
    return application


def think(model, content: bytes, parameters: dict) -> bytes:
    """The answer's bytes. Raises HTTPException for pictures that cannot be used."""
    parameters = dict(parameters)
    read = read_image(content, parameters.pop("pixels"))
    [result] = model.transfer(read.image, **parameters)
    temperature = (
        model.temperature if parameters["temperature"] is None else parameters["temperature"]
    )
    return encode(answer(result, read, parameters["seed"], temperature, parameters["forms"]))


def read_image(content: bytes, pixels: int) -> images.Reading:
    """The 64x64 image of a file, or of its 4,096 bytes if `pixels` is set. Raises HTTPException if
    it cannot be used."""
    if pixels:
        if len(content) != 64 * 64:
            raise HTTPException(
                400, f"pixels=1 takes 4096 bytes, the rows of a 64x64 image; {len(content)} came"
            )
        image = np.frombuffer(content, np.uint8).reshape(64, 64)
        return images.Reading(image, "", (0, 0, 64, 64))
    try:
        return images.read_image(content)
    except images.ImageError as error:
        raise HTTPException(status(content), str(error)) from None


def status(content: bytes) -> int:
    """415 for a file that is not a picture, 413 for a picture with too many pixels, and 400 for any
    other refused picture."""
    if not content:
        return 400
    try:
        with Image.open(
            io.BytesIO(content), formats=[f for f in images.FORMATS if f in Image.OPEN]
        ) as image:
            return (
                413
                if image.width * image.height > images.most_pixels(image.format)
                or max(image.size) > images.MAX_SIDE
                else 400
            )
    except UnidentifiedImageError:
        return 415
    except Image.DecompressionBombError:
        return 413
    except Exception:  # decoders raise anything on broken files
        return 400


DEFAULTS = {
    "samples": 10,
    "seed": 0,
    "temperature": None,
    "top": 10,
    "forms": "as-read",
    "pixels": 0,
}


def question(query, max_samples: int, names: tuple[str, ...] = tuple(DEFAULTS)) -> dict:
    """Those of the arguments of `transfer` and `pixels` that are in `names`, from the query's
    (name, value). Raises HTTPException 400."""
    parameters = {name: DEFAULTS[name] for name in names}
    bounds = {
        "samples": (1, max_samples),
        "seed": (0, 2**31 - 1),
        "top": (1, 100),
        "pixels": (0, 1),
    }
    for name, value in query:
        if name not in parameters:
            raise HTTPException(
                400, f"there is no parameter {name[:40]!r}; give {', '.join(parameters)}"
            )
        if name == "forms":
            if value not in FORM_CHOICES:
                raise HTTPException(400, f"forms is {value[:40]!r}; give {', '.join(FORM_CHOICES)}")
            parameters[name] = value
            continue
        try:
            number = (
                float(value) if name == "temperature" else int(value) if len(value) < 12 else None
            )
        except ValueError:
            number = None
        if name == "temperature":
            if number is None or not 0 < number <= 1:
                raise HTTPException(
                    400, f"temperature is {value[:40]!r}; give a number above 0 and up to 1"
                )
        elif number is None or not bounds[name][0] <= number <= bounds[name][1]:
            raise HTTPException(
                400, f"{name} is {value[:40]!r}; give {bounds[name][0]} to {bounds[name][1]}"
            )
        parameters[name] = number
    return parameters


async def upload(request: Request, limit: int, advice: str) -> bytes:
    """The picture's bytes, from the body or from the form in it; never more than `limit` of them
    are in memory. Raises HTTPException. advice: what to do if there are more."""
    kept, size = [], 0
    try:
        async with asyncio.timeout(UPLOAD_SECONDS):
            async for chunk in request.stream():
                size += len(chunk)
                if size <= limit:
                    kept.append(chunk)
                    continue
                # Clients that are cut off while they send do not read the answer: the rest is read,
                # within reason, and dropped.
                kept.clear()
                if size > 4 * limit:
                    break
    except TimeoutError:
        raise HTTPException(
            408, f"the upload took more than {UPLOAD_SECONDS} s; send a smaller picture"
        ) from None
    if size > limit:
        raise HTTPException(413, f"the upload is larger than {limit / 1e6:g} MB; {advice}")
    content = b"".join(kept)
    kind, options = parse_options_header(request.headers.get("content-type"))
    if kind != b"multipart/form-data":
        return content
    return from_form(content, options.get(b"boundary"), limit)


def from_form(content: bytes, boundary: bytes | None, limit: int) -> bytes:
    """The first file of a multipart/form-data body. Raises HTTPException 400."""
    files: list[bytes] = []

    def keep(file) -> None:
        file.file_object.seek(0)
        files.append(file.file_object.read())

    if boundary and content.count(b"--" + boundary) > MAX_PARTS + 1:
        raise HTTPException(400, f"the form has more than {MAX_PARTS} parts; send one file")
    try:
        # Starlette's own forms put uploads above a megabyte on disk.
        parser = FormParser(
            "multipart/form-data",
            lambda field: None,
            keep,
            boundary=boundary,
            config={"MAX_MEMORY_FILE_SIZE": limit + 1},
        )
        parser.write(content)
        parser.finalize()
    except FormParserError:
        raise HTTPException(
            400,
            "the form cannot be read; send multipart/form-data with one file, or the file alone as"
            " the body",
        ) from None
    if not files:
        raise HTTPException(
            400, "there is no file in the form; name one, as in curl -F image=@hana.png"
        )
    return files[0]


def version() -> str:
    try:
        return metadata.version("kuzushiji-transfer")
    except metadata.PackageNotFoundError:  # run from a folder that was not installed
        return "unknown"
