import json
import time
import urllib.request

import pyotp

from given import GIVEN


def call(method, path, body, token=None):
    headers = {"Content-Type": "application/json"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    request = urllib.request.Request(GIVEN["url"] + path, json.dumps(body).encode(), headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


credentials = GIVEN["credentials"]
token = GIVEN["tokens"][0]["token"]
status, begun = call("POST", "/v1/users/me/totp", {"password": credentials["password"]}, token)
assert status == 200, begun
totp = pyotp.parse_uri(begun["otpauth_url"])
assert totp.secret == begun["secret"], totp.secret
assert (totp.name, totp.issuer) == (credentials["email"], "auth.example"), (totp.name, totp.issuer)
assert (totp.digits, totp.interval) == (6, 30)
now = time.time()
status, confirmed = call("POST", "/v1/users/me/totp/confirm", {"code": totp.at(now - 30)}, token)
assert status == 200 and len(confirmed["recovery_codes"]) == 10, confirmed
status, asked = call("POST", "/v1/auth/login", credentials)
assert (status, asked["code"]) == (401, "mfa_required"), asked
status, signed_in = call("POST", "/v1/auth/mfa", {"mfa_token": asked["mfa_token"], "code": totp.at(now)})
assert status == 200 and signed_in["user"]["mfa"], signed_in
