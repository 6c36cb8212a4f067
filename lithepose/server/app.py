"""The endpoints: images in, people out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request, WebSocket
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.staticfiles import StaticFiles

from ..inference.estimator import Estimator
from ..inference.models import manifest
from . import examples
from .answers import as_drawing, as_json, chosen_format, encoded, joined
from .bodies import Budget, checked_pixels, read_images
from .config import ServeConfig
from .errors import RETRY, RequestError, as_refused, body, not_served, refused
from .guard import Guard
from .metrics import Counted, Metrics
from .model_files import ModelFiles
from .stream import Stream
from .workers import ClosedError, Job, QueueFullError, Workers

STATIC = Path(__file__).parent / "static"
BODIES = 16  # bodies of the largest size that may be in memory at once
Threshold = Annotated[
    float | None, Query(gt=0, lt=1, description="Lowest score of a joint; by default the model's own.")
]


def create_app(config: ServeConfig, models: Sequence[Estimator]) -> FastAPI:
    """The application.

    Args:
        config: limits and permissions.
        models: one for each worker.
    """
    metrics = Metrics(lambda: workers.waiting)
    workers = Workers(models, config.waiting, metrics.batches.observe)
    budget = Budget(BODIES * config.max_bytes)
    ready, files = asyncio.Event(), ModelFiles(config.model, models[0])

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        workers.start()
        ready.set()
        yield
        ready.clear()
        await asyncio.to_thread(workers.close)

    app = FastAPI(title="lithepose", version=version("lithepose"), lifespan=lifespan, docs_url=None, redoc_url=None)
    app.state.workers, app.state.metrics = workers, metrics
    app.add_exception_handler(RequestError, refused)
    app.add_exception_handler(HTTPException, not_served)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_middleware(Guard, config=config)
    app.add_middleware(Counted, metrics=metrics)
    if config.origins:
        app.add_middleware(CORSMiddleware, allow_origins=list(config.origins), allow_methods=["*"], allow_headers=["*"])

    async def run(job: Job) -> Any:
        """The result of a job, within the time limit."""
        try:
            workers.put(job)
        except QueueFullError as error:
            raise RequestError(429, "all workers are busy and the queue is full; try again", RETRY) from error
        except ClosedError as error:
            raise RequestError(503, "the server is shutting down", RETRY) from error
        try:
            return await asyncio.wait_for(asyncio.wrap_future(job.answer), config.seconds)
        except TimeoutError as error:
            raise RequestError(503, f"no worker finished within {config.seconds:g} s; try again", RETRY) from error
        except Exception as error:
            raise as_refused(error) from error

    async def find(data: bytes, finish: Callable[..., Any], threshold: float | None) -> Any:
        pixels = await asyncio.to_thread(checked_pixels, data, config)
        return await run(Job(data, pixels, finish, threshold))

    @app.post("/v1/poses", openapi_extra=examples.POSES, responses=examples.POSES_ANSWERS)
    async def poses(
        request: Request,
        format: Annotated[
            str | None, Query(description="lithepose, coco or openpose. Default: set by the header Accept.")
        ] = None,
        threshold: Threshold = None,
    ) -> Response:
        """People of an image, or of several images in a form."""
        kind = chosen_format(format, request.headers.get("accept", ""))
        with budget.hold() as take:
            images, form = await read_images(request, config, take)
            calls = [find(data, as_json(kind, i, name), threshold) for i, (name, data) in enumerate(images, 1)]
            answers = await asyncio.gather(*calls, return_exceptions=True)
        if unexpected := [a for a in answers if isinstance(a, BaseException) and not isinstance(a, RequestError)]:
            raise unexpected[0]
        failed = [answer for answer in answers if isinstance(answer, RequestError)]
        if failed and len(failed) == len(answers):
            raise failed[0]
        metrics.people.inc(sum(_people(kind, answer) for answer in answers if not isinstance(answer, RequestError)))
        names = [name for name, _ in images]
        whole = joined(kind, list(zip(names, answers, strict=True))) if form else answers[0]
        return Response(await asyncio.to_thread(encoded, whole), media_type="application/json")

    @app.post("/v1/draw", openapi_extra=examples.DRAW, responses=examples.DRAW_ANSWERS)
    async def drawing(request: Request, threshold: Threshold = None) -> Response:
        """The image with its people drawn."""
        png = "image/png" in request.headers.get("accept", "")
        with budget.hold() as take:
            images, _ = await read_images(request, config, take)
            if len(images) > 1:
                raise RequestError(400, f"{len(images)} images sent; send only one")
            drawn = await find(images[0][1], as_drawing(".png" if png else ".jpg"), threshold)
        return Response(drawn, media_type="image/png" if png else "image/jpeg")

    @app.websocket("/v1/stream")
    async def stream(socket: WebSocket) -> None:
        await Stream(socket, config, workers, metrics).run()

    @app.get("/v1/models", responses=examples.MODELS_ANSWERS)
    async def known_models() -> JSONResponse:
        """The model that runs here, and the names of all embedded models."""
        model = workers.models[0]
        loaded: dict[str, Any] = {"name": config.model, "skeleton": model.skeleton.name}
        loaded |= {"joints": list(model.joints), "edges": [list(edge) for edge in model.skeleton.edges]}
        loaded |= {"threshold": model.lowest} | files.description
        return JSONResponse({"loaded": loaded, "embedded": list(manifest())})

    @app.get("/v1/models/{name}.onnx", responses=examples.FILE_ANSWERS)
    async def model_file(name: str) -> FileResponse:
        """A network of the running model, for browsers."""
        if name not in files.paths:
            raise RequestError(
                404, f"{name}.onnx: no such file; available: {', '.join(files.paths) or 'none for this model'}"
            )
        return FileResponse(files.paths[name], media_type="application/octet-stream")

    @app.get("/healthz", responses=examples.HEALTH_ANSWERS)
    async def alive() -> JSONResponse:
        """Whether the process is running."""
        return JSONResponse({"status": "ok"})

    @app.get("/readyz", responses=examples.HEALTH_ANSWERS)
    async def is_ready() -> JSONResponse:
        """Whether requests are accepted."""
        if ready.is_set():
            return JSONResponse({"status": "ok"})
        return JSONResponse(body(503, "the server is starting or shutting down"), 503, RETRY)

    @app.get("/metrics", responses={200: {"content": {"text/plain": {}}}})
    async def counted() -> Response:
        """Counters for Prometheus."""
        return Response(metrics.text(), media_type="text/plain; version=0.0.4")

    @app.get("/", include_in_schema=False)
    async def page() -> FileResponse:
        return FileResponse(STATIC / "index.html")

    app.mount("/static", StaticFiles(directory=STATIC))
    if config.browser_runtime:
        app.mount("/ort", StaticFiles(directory=config.browser_runtime))
    return app


def _people(kind: str, answer: Any) -> int:
    return len(answer) if kind == "coco" else len(answer["people"])


async def _invalid(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    name, value = ".".join(map(str, first["loc"][1:])), first.get("input")
    return JSONResponse(body(400, f"{name}={value!r}: {first['msg']}"), 400)
