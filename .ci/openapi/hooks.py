"""What schemathesis cannot know from the document: who is signed in, and what no schema can say."""

import atexit
import base64
import collections
import email
import email.policy
import hmac
import itertools
import json
import os
import pathlib
import re
import time

import requests
import schemathesis

BASE = os.environ["COUNTERSIGN_URL"]
PASSWORD = "correct horse battery"

numbers = itertools.count()
# By operation, how often each status was answered.
answered = collections.defaultdict(collections.Counter)


def post(path, body):
    answer = requests.post(BASE + path, json=body, timeout=10)
    answer.raise_for_status()
    return answer.json()


def sign_up():
    """A new account: its token answer."""
    return post("/v1/auth/register", {"email": f"somebody{next(numbers)}@example.com", "password": PASSWORD})


MAILS = pathlib.Path(os.environ["COUNTERSIGN_MAILS"])
# How long a mail may take.
PATIENCE = 60


def as_user(account):
    return {"Authorization": f"Bearer {account['access_token']}"}


def mailed(address):
    """The token of the newest mail to an address. Each is read once."""
    began = time.monotonic()
    while time.monotonic() - began < PATIENCE:
        for path in sorted(MAILS.glob("*.eml"), reverse=True)[:20]:
            message = email.message_from_bytes(path.read_bytes(), policy=email.policy.default)
            text = message.get_body(("plain",)).get_content()
            found = re.search(r"token=([A-Za-z0-9_-]+)", text)
            if message["To"] == address and found:
                path.unlink()
                return found[1]
        time.sleep(0.02)
    raise TimeoutError(address)


def new_account():
    """An account whose address is proven: no mail of its is left."""
    account = sign_up()
    requests.post(BASE + "/v1/auth/email/verify", json={"token": mailed(account["user"]["email"])}, timeout=10)
    return account


def verification():
    return mailed(sign_up()["user"]["email"])


def reset_link():
    address = new_account()["user"]["email"]
    requests.post(BASE + "/v1/auth/password/forgot", json={"email": address}, timeout=10).raise_for_status()
    return mailed(address)


def undo_link():
    account, address = new_account(), f"moved{next(numbers)}@example.com"
    body = {"email": address, "password": PASSWORD}
    requests.post(BASE + "/v1/users/me/email", json=body, headers=as_user(account), timeout=10).raise_for_status()
    body = {"token": mailed(address)}
    requests.post(BASE + "/v1/auth/email/verify", json=body, timeout=10).raise_for_status()
    return mailed(account["user"]["email"])


def code(secret, later=0):
    """The code of a time step (RFC 6238)."""
    key, step = base64.b32decode(secret), int(time.time()) // 30 + later
    tag = hmac.digest(key, step.to_bytes(8, "big"), "sha1")
    offset = tag[-1] & 15
    return f"{(int.from_bytes(tag[offset:offset + 4], 'big') & 0x7FFFFFFF) % 1_000_000:06}"


def begun():
    """An account, and the secret of a second factor that waits to be confirmed."""
    account = sign_up()
    answer = requests.post(
        BASE + "/v1/users/me/totp", json={"password": PASSWORD}, headers=as_user(account), timeout=10
    )
    answer.raise_for_status()
    return account, answer.json()["secret"]


def with_second_factor():
    """An account with a second factor in force, and its first recovery code."""
    account, secret = begun()
    body = {"code": code(secret)}
    answer = requests.post(BASE + "/v1/users/me/totp/confirm", json=body, headers=as_user(account), timeout=10)
    answer.raise_for_status()
    return account, answer.json()["recovery_codes"][0]


def half_way():
    """What the second step of a log-in takes."""
    account, recovery_code = with_second_factor()
    body = {"email": account["user"]["email"], "password": PASSWORD}
    answer = requests.post(BASE + "/v1/auth/login", json=body, timeout=10).json()
    return {"mfa_token": answer["mfa_token"], "recovery_code": recovery_code}


def as_another(case, account, body):
    case.headers["Authorization"] = f"Bearer {account['access_token']}"
    case.body = body


def put_in(case, operation):
    """Makes a call one that succeeds, if that takes what was mailed or a second factor."""
    if operation == "resetPassword":
        case.body = {"token": reset_link(), "new_password": "staple after staple"}
    elif operation == "verifyEmail":
        case.body = {"token": verification()}
    elif operation == "undoEmailChange":
        case.body = {"token": undo_link()}
    elif operation == "changeEmail":
        as_another(case, sign_up(), {"email": f"moved{next(numbers)}@example.com", "password": PASSWORD})
    elif operation == "showReset":
        case.query["token"] = reset_link()
    elif operation == "showVerify":
        case.query["token"] = verification()
    elif operation == "showUndo":
        case.query["token"] = undo_link()
    elif operation == "sendReset":
        case.body = {"token": reset_link(), "new_password": "staple after staple"}
    elif operation == "sendVerify":
        case.body = {"token": verification()}
    elif operation == "sendUndo":
        case.body = {"token": undo_link()}
    elif operation == "beginTotp":
        as_another(case, sign_up(), {"password": PASSWORD})
    elif operation == "confirmTotp":
        account, secret = begun()
        as_another(case, account, {"code": code(secret)})
    elif operation == "removeTotp":
        account, recovery_code = with_second_factor()
        as_another(case, account, {"password": PASSWORD, "recovery_code": recovery_code})
    elif operation == "loginMfa":
        case.body = half_way()


# Of the calls of an operation that are as the document says, how many there were.
positive = collections.Counter()


def page_of_events():
    """A cursor that a page of events has named: fifty events fit on one."""
    account = sign_up()
    for _ in range(50):
        post("/v1/auth/login", {"email": account["user"]["email"], "password": PASSWORD})
    headers = {"Authorization": f"Bearer {account['access_token']}"}
    return requests.get(BASE + "/v1/users/me/events", headers=headers, timeout=10).json()["next_cursor"]


CURSOR = page_of_events()


@schemathesis.auth()
class NewAccount:
    """Somebody new whenever the session is over: calls sign out, change passwords and delete accounts."""

    current = None

    def get(self, case, ctx):
        NewAccount.current = sign_up()
        return NewAccount.current["access_token"]

    def set(self, case, token, ctx):
        case.headers["Authorization"] = f"Bearer {token}"


def is_positive(case):
    return case.meta is not None and case.meta.generation.mode.is_positive


@schemathesis.hook
def before_call(context, case, kwargs):
    """Puts in what only the server knows, in half of the calls that are as the document says."""
    if not is_positive(case):
        return
    operation = case.operation.definition.raw.get("operationId")
    positive[operation] += 1
    if positive[operation] % 4 == 1:
        put_in(case, operation)
    if operation in ("refresh", "logout") and isinstance(case.body, dict) and "refresh_token" in case.body:
        if len(str(case.body["refresh_token"])) % 2 == 0:
            case.body = {"refresh_token": sign_up()["refresh_token"]}
    elif operation == "listEvents" and len(str(case.query.get("cursor", ""))) % 2 == 0:
        case.query["cursor"] = CURSOR
    elif operation == "endSession" and NewAccount.current and case.path_parameters["id"][0] in "01234567":
        email = NewAccount.current["user"]["email"]
        answer = requests.post(BASE + "/v1/auth/login", json={"email": email, "password": PASSWORD}, timeout=10)
        if answer.ok:
            case.path_parameters["id"] = answer.json()["session_id"]


@schemathesis.hook
def after_call(context, case, response):
    # Others are probes of what the path does not answer.
    if response.request.method == case.operation.method.upper():
        answered[case.operation.label][response.status_code] += 1


@schemathesis.hook
def filter_failure(context, failure, case, response):
    """Refusals of what the schema allows, each for a reason that no schema can express, and what is not refused on purpose."""
    operation = case.operation.definition.raw.get("operationId")
    # A log-out does not fail over what is in its body.
    if type(failure).__name__ == "AcceptedNegativeData":
        return operation != "logout"
    if type(failure).__name__ != "RejectedPositiveData":
        return True
    # Pages are for links that were mailed.
    if operation in ("showReset", "showVerify", "showUndo", "sendReset", "sendVerify", "sendUndo"):
        return False
    problem = response.json()
    # A string that is no code or token from a mail.
    if problem["code"] == "invalid_code":
        return False
    # A token, or a code with its address; a code or a recovery code, and not both.
    if operation in ("resetPassword", "verifyEmail", "loginMfa", "removeTotp"):
        return problem["code"] != "invalid_request"
    # Common passwords, and the account's own address.
    if problem["code"] == "validation_failed":
        fields = {error["field"] for error in problem["errors"]}
        return problem.get("reason") != "blocklisted" or not fields <= {"password", "new_password"}
    # A string that is no refresh token of ours: RFC 6749 section 5.2 demands a 400.
    if problem["code"] == "invalid_grant":
        return False
    names = {error["field"] for error in problem.get("errors", [])}
    # No token in the body where there is none by cookie either, or two that differ; a cursor of no page.
    if operation == "refresh" and problem["code"] == "invalid_request":
        body = case.body if isinstance(case.body, dict) else {}
        tokens = {body.get(name) for name in ("refresh_token", "refreshToken")} - {None}
        return not (names == {"refresh_token"} or len(tokens) == 2)
    if operation == "listEvents" and problem["code"] == "invalid_request":
        return names != {"cursor"}
    return True


@atexit.register
def tell():
    with open(os.environ["COUNTERSIGN_COVERAGE"], "w") as file:
        json.dump(answered, file)
