"""Werkzeug's parser of challenges, and the one of Python itself."""

import urllib.error
import urllib.request

from werkzeug.datastructures import WWWAuthenticate

from given import GIVEN


def challenges(method, path, headers, body=None):
    request = urllib.request.Request(GIVEN["url"] + path, method=method, headers=headers, data=body)
    try:
        urllib.request.urlopen(request, timeout=60)
    except urllib.error.HTTPError as error:
        assert error.code == 401, error.code
        return error.headers.get_all("WWW-Authenticate")
    raise AssertionError("let in")


realm = {"realm": "countersign"}
wrong = b'{"email":"nobody@example.com","password":"wrong"}'
for request, expected in [
    (("GET", "/v1/users/me", {}), realm),
    (("GET", "/v1/users/me", {"Authorization": "Bearer junk"}), realm | {"error": "invalid_token"}),
    (("GET", "/v1/sessions", {"Cookie": "accessToken=junk"}), realm | {"error": "invalid_token"}),
    (("POST", "/v1/auth/refresh/confirm", {"Authorization": "Bearer junk"}), realm | {"error": "invalid_token"}),
    (("POST", "/v1/auth/logout", {}), realm),
    (("POST", "/v1/auth/login", {"Content-Type": "application/json"}, wrong), realm),
]:
    [challenge] = challenges(*request)
    read = WWWAuthenticate.from_header(challenge)
    assert (read.type, dict(read.parameters)) == ("bearer", expected), (request, challenge, read)
    scheme, _, rest = challenge.partition(" ")
    parameters = urllib.request.parse_keqv_list(urllib.request.parse_http_list(rest))
    assert (scheme, parameters) == ("Bearer", expected), (request, challenge, parameters)
