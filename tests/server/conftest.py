import pytest
from starlette.testclient import TestClient
from stub import Stub

from lithepose.server.app import create_app
from lithepose.server.config import ServeConfig


@pytest.fixture
def start():
    """Makes a client of a server with a stub; the configuration is named."""
    clients = []

    def make(model=None, **config):
        client = TestClient(create_app(ServeConfig(**config), [model or Stub()]), base_url="http://127.0.0.1:8000")
        client.__enter__()
        clients.append(client)
        return client

    yield make
    for client in clients:
        client.__exit__(None, None, None)
