"""Who gets an answer: token, Host, Origin; no path of a request reaches a file."""

import http.client
import json
import socket
from urllib.parse import urlsplit

import pytest


def ask(served, path, *, method="GET", **headers):
    """Status, headers and body of one request, sent as it stands."""
    place = urlsplit(served.base)
    connection = http.client.HTTPConnection(place.hostname, place.port, timeout=20)
    try:
        connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        for name, value in {"Host": place.netloc, **headers}.items():
            connection.putheader(name.replace("_", "-"), value)
        connection.endheaders()
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()
    finally:
        connection.close()


@pytest.fixture
def cookie(shared_server):
    """The cookie that a browser gets for the token."""
    status, headers, _ = ask(shared_server, f"/tissue?fov=fov002&token={shared_server.token}")
    given = {k.lower(): v for k, v in headers.items()}
    assert (status, given["location"]) == (303, "/tissue?fov=fov002")
    assert "HttpOnly" in given["set-cookie"]
    assert "SameSite=Lax" in given["set-cookie"]
    return given["set-cookie"].partition(";")[0]


TILE = "/tiles/0/image/0/0/0.png?c=0,ff0000,0,100,1"


def test_the_token_is_needed(shared_server, cookie):
    assert ask(shared_server, "/tissue")[0] == 401
    assert ask(shared_server, "/tissue?token=wrong")[0] == 401
    assert ask(shared_server, TILE)[0] == 401
    assert ask(shared_server, "/_nicegui_ws/socket.io/?EIO=4&transport=polling")[0] == 401
    assert ask(shared_server, TILE, Cookie="panimbus_1=x")[0] == 401
    status, headers, body = ask(shared_server, TILE, Cookie=cookie)
    assert (status, body[:4]) == (200, b"\x89PNG")
    assert "frame-ancestors 'self'" in headers["content-security-policy"]


def test_only_its_own_pages_and_names_may_ask(shared_server, cookie):
    own = urlsplit(shared_server.base)
    for headers, status in (
        ({"Origin": shared_server.base}, 200),
        ({"Origin": "http://example.org"}, 403),
        ({"Origin": f"http://127.0.0.1:{own.port + 1}"}, 403),
        ({"Origin": "null"}, 403),
        ({"Host": "example.org"}, 403),
        ({"Host": f"example.org:{own.port}"}, 403),
        ({"Host": ""}, 403),
        ({"Host": "localhost:9"}, 200),  # a tunnel
        ({"Sec_Fetch_Site": "same-site", "Sec_Fetch_Mode": "no-cors"}, 403),
        ({"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate"}, 200),
    ):
        assert ask(shared_server, TILE, Cookie=cookie, **headers)[0] == status, headers


@pytest.mark.parametrize(
    ("change", "status"),
    [({}, 101), ({"Origin": "http://example.org"}, 403), ({"Cookie": "x=1"}, 403), ({"Host": "example.org"}, 403)],
)  # fmt: skip
def test_websockets_are_guarded_too(shared_server, cookie, change, status):
    place = urlsplit(shared_server.base)
    headers = {
        "Host": place.netloc, "Origin": shared_server.base, "Cookie": cookie, "Connection": "Upgrade", "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", **change,
    }  # fmt: skip
    text = "GET /_nicegui_ws/socket.io/?EIO=4&transport=websocket HTTP/1.1\r\n"
    text += "".join(f"{k}: {v}\r\n" for k, v in headers.items()) + "\r\n"
    with socket.create_connection((place.hostname, place.port), 20) as connection:
        connection.sendall(text.encode())
        assert int(connection.recv(200).split()[1]) == status


@pytest.mark.parametrize(
    "path",
    [
        "/tiles/../../../../etc/passwd", "/tiles/0/image/0/0/..%2f..%2f..%2fetc%2fpasswd", "/%2e%2e/%2e%2e/etc/passwd", "//etc/passwd",
        "/tiles/%2fetc%2fpasswd/image/0/0/0.png?c=0,ff0000,0,1,1", "/tiles/-1/image/0/0/0.png?c=0,ff0000,0,1,1",
        "/tiles/9/image/0/0/0.png?c=0,ff0000,0,1,1", "/tiles/0/image/0/0/0.png?c=../x", "/tiles/0/image/0/0/0.png", "/crops/0/999999/0.png",
        "/tiles/0/image/0/0/0.png?c=" + ";".join(["0,ff0000,0,1,1"] * 13), "/tiles/0/cells/0/0/0.png?s=call,99,,0",
        "/views/0/30.png?c=0,ff0000,0,1,1&box=0,99999,0,99999", "/_nicegui/3.0/resources/x/../../../../etc/passwd", "/run.json", "/cells.h5ad",
        "/thumbs/0/99999.png", "/tiles/0/image/99/0/0.png?c=0,ff0000,nan,1,1", "/docs", "/openapi.json",
    ],
)  # fmt: skip
def test_no_path_of_a_request_reaches_a_file(shared_server, cookie, path):
    status, _, body = ask(shared_server, path, Cookie=cookie)
    assert 400 <= status < 500
    assert b"root:" not in body
    assert b"Traceback" not in body


def test_the_welcome_never_leads_to_another_host(shared_server):
    for path in ("//example.org", "/\\example.org", "///example.org/x"):
        status, headers, _ = ask(shared_server, f"{path}?token={shared_server.token}")
        where = {k.lower(): v for k, v in headers.items()}.get("location", "/")
        assert status in (303, 400)
        assert not urlsplit(where).netloc
        assert not where.startswith(("//", "/\\"))


def test_a_tile_outside_the_image_is_empty(shared_server, cookie):
    status, _, body = ask(shared_server, TILE.replace("0/0/0.png", "3/900/900.png"), Cookie=cookie)
    assert (status, len(body) < 1000) == (200, True)


def test_pages_say_nothing_of_the_token(shared_server, cookie):
    _, _, body = ask(shared_server, "/tissue", Cookie=cookie)
    assert b"panimbus" in body
    assert shared_server.token not in json.dumps(body.decode())
