"""What the test says: where the server is, what its tokens promise, and one token of each kind."""

import base64
import json
import os

GIVEN = json.loads(os.environ["GIVEN"])
JWKS_URL = GIVEN["url"] + "/.well-known/jwks.json"


def refuses(errors, attempt, what):
    """Fails unless `attempt` raises one of `errors`."""
    try:
        attempt()
    except errors:
        return
    raise AssertionError(f"{what} was accepted")


def forged(token):
    """The token with another subject, under the same signature."""
    header, payload, signature = token.split(".")
    claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    claims["sub"] = "01890a5d-ac96-774b-bcce-b302099a8057"
    payload = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return ".".join([header, payload, signature])
