"""Prints what each operation answered, and fails if one of them never succeeded: then it was not tested."""

import json
import sys

document, answered = (json.load(open(path)) for path in sys.argv[1:])
missed = []
for path, item in document["paths"].items():
    for method in ("get", "post", "patch", "delete"):
        if method not in item:
            continue
        label = f"{method.upper()} {path}"
        statuses = answered.get(label, {})
        print(f"{label:38}", "  ".join(f"{status}: {count}" for status, count in sorted(statuses.items())))
        if not any(status[0] in "23" for status in statuses):
            missed.append(label)
print(f"{sum(sum(statuses.values()) for statuses in answered.values())} calls")
if missed:
    sys.exit("never succeeded: " + ", ".join(missed))
