import jwt

from given import GIVEN, JWKS_URL, forged, refuses

client = jwt.PyJWKClient(JWKS_URL, timeout=60)


def verify(token, audience=GIVEN["audience"]):
    key = client.get_signing_key_from_jwt(token)
    required = {"require": ["exp", "iat", "sub", "jti"]}
    return jwt.decode(
        token, key, algorithms=[GIVEN["algorithm"]], issuer=GIVEN["issuer"], audience=audience, options=required
    )


for case in GIVEN["tokens"]:
    claims = verify(case["token"])
    assert claims["sub"] == case["user"], claims
    assert claims.get("roles") == case.get("roles"), claims
    refuses(jwt.InvalidSignatureError, lambda: verify(forged(case["token"])), "a forged token")
    refuses(jwt.InvalidAudienceError, lambda: verify(case["token"], "https://elsewhere.example"), "a foreign audience")
refuses(jwt.PyJWTError, lambda: verify(GIVEN["refresh_token"]), "a refresh token")
