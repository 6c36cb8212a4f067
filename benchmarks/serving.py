"""Throughput and latency of `lithepose serve` under load, compared with the model alone.

    python benchmarks/serving.py --out results/serving-NAME.csv

Clients run in a separate process, send the same image repeatedly, and wait after a 429. The server's memory is recorded
after the first minute and at the end. Before and after, the same images run through ``model(list)`` in this process.
"""

import argparse
import csv
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any

import cv2

import lithepose
from lithepose.media.image import encode_image
from lithepose.timing import about, cpu

SAMPLE = Path(lithepose.__file__).parent / "samples" / "astronaut.jpg"


def alone(image: bytes, images: int) -> float:
    """Images per second of ``model(list)``."""
    model, batch = lithepose.load(), list[Any]([image]) * images
    model(batch[:8])
    began = time.perf_counter()
    model(batch)
    return images / (time.perf_counter() - began)


def clients(address: str, image: bytes, count: int, seconds: float, answers) -> None:
    """Send requests from threads; put (statuses, milliseconds) on the queue."""
    statuses, times, end = Counter(), [], time.perf_counter() + seconds

    def send() -> None:
        while time.perf_counter() < end:
            began = time.perf_counter()
            try:
                with urllib.request.urlopen(urllib.request.Request(address + "/v1/poses", image), timeout=60) as answer:
                    json.load(answer)
                statuses[200] += 1
                times.append((time.perf_counter() - began) * 1000)
            except urllib.error.HTTPError as error:
                statuses[error.code] += 1
                time.sleep(float(error.headers.get("Retry-After", 1)))
            except OSError as error:
                statuses[type(error).__name__] += 1

    threads = [threading.Thread(target=send) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    answers.put((dict(statuses), times))


def megabytes(process: int) -> float:
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, help="a .csv")
    arguments = parser.parse_args()
    frame = cv2.resize(lithepose.read_image(SAMPLE), (640, 480))
    image = encode_image(".jpg", frame)
    before = alone(image, 200)
    command = [sys.executable, "-m", "lithepose", "serve", "--port", "0", "--workers", str(arguments.workers)]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert server.stderr
    address = next(line for line in server.stderr if "serves at" in line).split()[-1]
    answers = multiprocessing.Queue()
    load = multiprocessing.Process(target=clients, args=(address, image, arguments.clients, arguments.seconds, answers))
    load.start()
    time.sleep(min(60, arguments.seconds / 2))
    early = megabytes(server.pid)
    statuses, times = answers.get()
    load.join()
    late = megabytes(server.pid)
    server.terminate()
    code = server.wait(timeout=15)
    after = alone(image, 200)
    rate, own = len(times) / arguments.seconds, (before + after) / 2
    cuts = statistics.quantiles(times, n=100)
    row = {
        "clients": arguments.clients,
        "workers": arguments.workers,
        "seconds": arguments.seconds,
        "images_a_second": round(rate, 1),
        "model_alone": round(own, 1),
        "share": round(rate / own, 3),
        "p50_ms": round(cuts[49], 1),
        "p95_ms": round(cuts[94], 1),
        "p99_ms": round(cuts[98], 1),
        "answers": json.dumps(statuses),
        "mb_after_a_minute": round(early),
        "mb_at_the_end": round(late),
        "exit_code": code,
        "machine": f"{cpu()}, {os.cpu_count()} cores, {about()}",
    }
    for name, value in row.items():
        print(f"{name}: {value}")
    if arguments.out:
        with arguments.out.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(row), lineterminator="\n")
            writer.writeheader()
            writer.writerow(row)


if __name__ == "__main__":
    main()
