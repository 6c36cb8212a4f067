"""Streams: frames of a camera in, people with ids out."""

from __future__ import annotations

import asyncio
import itertools
import time
from typing import Any

import numpy as np
from starlette.websockets import WebSocket, WebSocketDisconnect

from ..media.sources import Frame
from ..poses import Poses
from ..tracking.tracker import Following
from .bodies import checked_pixels
from .config import ServeConfig
from .errors import RequestError, as_refused, body
from .metrics import Metrics
from .workers import ClosedError, Job, QueueFullError, Workers

QUIET = 60.0  # seconds without a frame after which a stream is closed
RATE = 30.0  # assumed frames per second of a client

_numbers = itertools.count()


class Stream:
    """One WebSocket. Binary messages are encoded frames; each frame that is run is answered with json.

    While a frame is run, only the newest one waits. Older ones are dropped, and the answer says how many.

    Args:
        socket: a socket that is not accepted yet. Its query may set ``threshold`` and ``smooth``.
        config: limits.
        workers: workers that run the frames.
        metrics: counters to update.
    """

    def __init__(self, socket: WebSocket, config: ServeConfig, workers: Workers, metrics: Metrics) -> None:
        self.socket, self.config, self.workers, self.metrics = socket, config, workers, metrics
        self._newest: tuple[int, bytes | str] | None = None
        self._arrived, self._ended = asyncio.Event(), False
        self._count, self._began = 0, time.monotonic()
        self._late: asyncio.Future[Any] | None = None  # answer of the last frame

    async def run(self) -> None:
        """Serve the stream to its end."""
        asked = self.socket.headers.get("sec-websocket-protocol", "")
        token = next((name.strip() for name in asked.split(",") if name.strip().startswith("bearer.")), None)
        await self.socket.accept(subprotocol=token)
        if self.workers.streams >= self.config.streams:
            await self.socket.close(1013, f"{self.config.streams} streams are open; try again")
            return
        try:
            follow = self._follower()
        except RequestError as error:
            await self.socket.send_json(body(error.status, error.message))
            await self.socket.close(1008, "see the previous message")
            return
        self.metrics.streams.inc()
        self.workers.streams += 1
        reader = asyncio.create_task(self._read())
        try:
            await self._answer(follow)
        except (WebSocketDisconnect, RuntimeError, TimeoutError):  # the client went away, or takes no answer
            pass
        finally:
            self.metrics.streams.dec()
            self.workers.streams -= 1
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)

    def _follower(self) -> Any:
        """A function that finds the people in a frame, using the frames before it."""
        query = self.socket.query_params
        smooth = query.get("smooth", "0") in ("1", "true")
        model = self.workers.models[next(_numbers) % len(self.workers.models)]
        if "threshold" in query:
            try:
                threshold = float(query["threshold"])
            except ValueError:
                threshold = 0.0
            if not 0 < threshold < 1:
                raise RequestError(400, f"threshold={query['threshold']}: must be above 0 and below 1")
            model = model.with_config(peak=threshold)
        pipeline, following = model.pipeline(), Following(smooth, model.guessed)

        def estimate(image: np.ndarray, number: int, seconds: float) -> Poses:
            frame = Frame(image, "stream", number, seconds, RATE, live=True)
            return following(frame, pipeline.finish(pipeline.run(pipeline.prepare(frame))))

        return estimate

    async def _read(self) -> None:
        """Keep the newest frame."""
        try:
            while True:
                message = await asyncio.wait_for(self.socket.receive(), QUIET)
                if message["type"] == "websocket.disconnect":
                    break
                data = message.get("bytes")
                self._newest = self._count, message.get("text", "") if data is None else data
                self._count += 1
                self._arrived.set()
        except TimeoutError:
            pass
        finally:
            self._ended = True
            self._arrived.set()

    async def _answer(self, follow: Any) -> None:
        done = 0
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            if self._newest is None:
                if self._ended:
                    break
                continue
            (number, data), self._newest = self._newest, None
            self.metrics.frames.labels("dropped").inc(number - done)
            place = {"frame": number, "dropped": number - done, "time": round(time.monotonic() - self._began, 3)}
            done = number + 1
            try:
                answer = await self._people(data, follow, number, place["time"])
                self.metrics.frames.labels("run").inc()
            except RequestError as error:
                self.metrics.frames.labels("refused").inc()
                answer = body(error.status, error.message)
            await asyncio.wait_for(self.socket.send_json(place | answer), self.config.seconds)
            if self._ended or self._newest is not None:
                self._arrived.set()
        await self.socket.close(1001, f"no frame within {QUIET:g} s")

    async def _people(self, data: bytes | str, follow: Any, number: int, seconds: float) -> dict[str, Any]:
        if isinstance(data, str):
            raise RequestError(400, "text message received; send every frame as a binary message with an encoded image")
        if self._late is not None:  # only one frame at a time may use the state of earlier frames
            await asyncio.wait([self._late])
        pixels, began = await asyncio.to_thread(checked_pixels, data, self.config), time.perf_counter()
        job = Job(data, pixels, lambda _, poses: poses.to_dict(), None, lambda image: follow(image, number, seconds))
        try:
            self.workers.put(job)
            self._late = asyncio.wrap_future(job.answer)
            found = await asyncio.wait_for(asyncio.shield(self._late), self.config.seconds)
        except QueueFullError as error:
            raise RequestError(429, "all workers are busy; this frame was skipped") from error
        except ClosedError as error:
            raise RequestError(503, "the server is shutting down") from error
        except TimeoutError as error:
            raise RequestError(503, f"no worker finished within {self.config.seconds:g} s") from error
        except Exception as error:
            raise as_refused(error) from error
        self.metrics.people.inc(len(found["people"]))
        return {"milliseconds": round(1000 * (time.perf_counter() - began), 1), **found}
