"""What schemathesis cannot know from the document: who is signed in, and what no schema can say."""

import atexit
import collections
import itertools
import json
import os

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
    problem = response.json()
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
