"""Authlib's validator for a resource server by RFC 9068."""

import json
import urllib.request

from authlib.oauth2 import OAuth2Error
from authlib.oauth2.rfc9068 import JWTBearerTokenValidator

from given import GIVEN, JWKS_URL, forged, refuses


class Validator(JWTBearerTokenValidator):
    def get_jwks(self):
        with urllib.request.urlopen(JWKS_URL, timeout=60) as answer:
            return json.load(answer)


def let_in(token, roles=None, audience=GIVEN["audience"]):
    validator = Validator(issuer=GIVEN["issuer"], resource_server=audience)
    claims = validator.authenticate_token(token)
    validator.validate_token(claims, scopes=None, request=None, roles=roles)
    return claims


for case in GIVEN["tokens"]:
    token, roles = case["token"], case.get("roles")
    assert let_in(token)["sub"] == case["user"]
    if roles:
        assert let_in(token, roles=roles)["roles"] == roles
    refuses(OAuth2Error, lambda: let_in(token, roles=["owner"]), "a role that the user does not have")
    refuses(OAuth2Error, lambda: let_in(token, audience="https://elsewhere.example"), "a foreign audience")
    refuses(OAuth2Error, lambda: let_in(forged(token)), "a forged token")
refuses(OAuth2Error, lambda: let_in(GIVEN["refresh_token"]), "a refresh token")
