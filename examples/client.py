"""Sends images to `lithepose serve` and prints the people: python examples/client.py photo.jpg ..."""

import argparse
import json
import time
import urllib.error
import urllib.request
from pathlib import Path


def find_people(address: str, image: bytes, token: str = "") -> list[dict]:
    """Return the people of an encoded image; waits while the server is busy."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    while True:
        request = urllib.request.Request(f"{address}/v1/poses", image, headers)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.load(answer)["people"]
        except urllib.error.HTTPError as error:
            if error.code != 429:
                raise SystemExit(json.load(error)["error"]["message"]) from error
            time.sleep(float(error.headers["Retry-After"]))
        except urllib.error.URLError as error:
            raise SystemExit(f"{address}: {error.reason}; does `lithepose serve` run there?") from error


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("images", nargs="+", type=Path)
    parser.add_argument("--address", default="http://127.0.0.1:8000")
    parser.add_argument("--token", default="")
    arguments = parser.parse_args()
    for path in arguments.images:
        for person in find_people(arguments.address, path.read_bytes(), arguments.token):
            print(path, person["score"], person["joints"]["nose"])
