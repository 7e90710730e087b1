"""Prints what is in the message on standard input, as the mail server of these tests does."""

import json
import os
import sys

os.environ.setdefault("GIVEN", "{}")

from server import parsed  # noqa: E402

print(json.dumps(parsed(sys.stdin.buffer.read())))
