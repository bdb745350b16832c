"""A cache client in Python, standard library only: time limits, retries that apply once, compare-and-set, fallback.

    python3 cache.py add cart-7 book      append to a list that other processes append to as well
    python3 cache.py count visits         count up exactly once, however often the request is sent
    python3 cache.py read price-7         read, and go to the source when the cache can't answer
"""

import http.client
import json
import os
import random
import sys
import time
import urllib.parse

ATTEMPT_S = 1.0  # one request; the sidecar is on this host, so a longer wait means trouble
BUDGET_S = 3.0  # one operation with all its retries; shorter than what the user of the app waits for
CAS_TRIES = 100  # reads and writes of one compare-and-set loop


class Unavailable(Exception):
    """The cache did not answer within the budget. A write may or may not have been applied."""


class Conflict(Exception):
    """Other writers were faster every time."""


class Cache:
    def __init__(self, url, name):
        parts = urllib.parse.urlsplit(url)
        self.host, self.port, self.path = parts.hostname, parts.port, f"/v1/caches/{name}/entries/"

    def request(self, method, key, body=None, headers=None, suffix=""):
        """Sends until there is an answer that is not worth a retry; every attempt carries the same idempotency key."""
        headers = dict(headers or {})
        if method != "GET":
            headers["Idempotency-Key"] = uuid7()
        path, ends, wait = self.path + urllib.parse.quote(key, safe="") + suffix, time.monotonic() + BUDGET_S, 0.02
        while True:
            after = 0.0
            try:
                link = http.client.HTTPConnection(self.host, self.port, timeout=ATTEMPT_S)
                try:
                    link.request(method, path, body=body, headers=headers)
                    answer = link.getresponse()
                    content = answer.read()
                finally:
                    link.close()
                if answer.status < 500 and answer.status != 429:
                    return answer.status, answer.headers, content
                problem = json.loads(content or b"{}")
                if not problem.get("retryable"):
                    raise Unavailable(problem.get("detail", answer.reason))
                error, after = problem.get("detail"), problem.get("retryAfterMs", 0) / 1000
            except (OSError, http.client.HTTPException, ValueError) as broken:  # refused, reset, no answer in time
                error = broken
            # Full jitter, so that many clients don't come back at one time.
            pause = max(after, random.uniform(0, wait))
            if time.monotonic() + pause >= ends:
                raise Unavailable(str(error))
            time.sleep(pause)
            wait = min(2 * wait, 0.5)

    def get(self, key):
        """The value and its version, or (None, None)."""
        status, headers, content = self.request("GET", key)
        if status == 404:
            return None, None
        expect(status, content, 200)
        return content, headers["ETag"]

    def update(self, key, change, ttl="30m"):
        """Sets the key to change(value): decided at the key's primary, so no other writer's change is lost."""
        for _ in range(CAS_TRIES):
            value, version = self.get(key)
            condition = {"If-Match": version} if version else {"If-None-Match": "*"}
            status, _, content = self.request("PUT", key, change(value), condition, f"?ttl={ttl}")
            if status != 412:  # 412: another writer came first; read again
                expect(status, content, 201, 204)
                return
        raise Conflict(key)

    def increment(self, key, by=1):
        status, _, content = self.request("POST", key, suffix=f"/increment?by={by}")
        expect(status, content, 200)
        return int(content)

    def get_or(self, key, source):
        """Reads through: the app goes on without the cache, only slower."""
        try:
            value, _ = self.get(key)
            if value is not None:
                return value
        except Unavailable as why:
            print(f"without the cache: {why}", file=sys.stderr)
            return source()
        value = source()
        try:
            self.request("PUT", key, value, suffix="?ttl=30s")
        except Unavailable as why:
            print(f"not cached: {why}", file=sys.stderr)
        return value


def expect(status, content, *wanted):
    if status not in wanted:
        raise RuntimeError(f"{status}: {content.decode(errors='replace')}")


def uuid7():
    """RFC 9562, version 7: its time tells the cache how old a retry is."""
    n = (time.time_ns() // 1_000_000) << 80 | 7 << 76 | random.getrandbits(12) << 64 | 2 << 62 | random.getrandbits(62)
    digits = f"{n:032x}"
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def main(command, key, item=None):
    cache = Cache(os.environ.get("SIDEGRID_URL", "http://127.0.0.1:7080"), os.environ.get("CACHE", "default"))
    if command == "add":
        cache.update(key, lambda value: json.dumps(json.loads(value or b"[]") + [item]).encode())
    elif command == "count":
        print(cache.increment(key))
    elif command == "read":
        print(cache.get_or(key, lambda: b"from the source").decode())
    else:
        raise SystemExit(__doc__)


if __name__ == "__main__":
    main(*sys.argv[1:])
