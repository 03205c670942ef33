# Licensed to the Apache Software Foundation (ASF) under one
# or more contributor license agreements.  See the NOTICE file
# distributed with this work for additional information
# regarding copyright ownership.  The ASF licenses this file
# to you under the Apache License, Version 2.0 (the
# "License"); you may not use this file except in compliance
# with the License.  You may obtain a copy of the License at
#
#   http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing,
# software distributed under the License is distributed on an
# "AS IS" BASIS, WITHOUT WARRANTIES OR CONDITIONS OF ANY
# KIND, either express or implied.  See the License for the
# specific language governing permissions and limitations
# under the License.
from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import dataclass

from hypothesis import Phase, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from airflow.api_fastapi.auth.tokens import RevokedTokenLookup
from airflow.models import revoked_token
from airflow.models.revoked_token import RevokedToken

from tests_common.test_utils.config import conf_vars

TIMEOUT = 10
MAX_TOKENS = 3
TOKENS = st.sampled_from("abcdef")
ERRORS = st.sampled_from([OSError, ValueError, SystemExit])


@dataclass(eq=False)
class Request:
    """A request, and whether its token was revoked when it came."""

    jti: str
    revoked_before: bool
    task: asyncio.Task
    taken: bool = False


class Lookups(RuleBasedStateMachine):
    """
    Requests come, are cancelled and answered, tokens are revoked and queries fail, in any order.

    The query is the machine's: it begins when the lookup asks and ends when a rule says so. What it answers
    was true at its beginning, or at its end; a database may do either.
    """

    def __init__(self) -> None:
        super().__init__()
        self.no_cache = conf_vars({("api_auth", "revoked_token_cache_ttl_seconds"): "0"})
        self.no_cache.__enter__()
        self.forget_cache()
        RevokedToken._last_cleanup_time = time.monotonic()
        self.loop = asyncio.new_event_loop()
        self.lookup = RevokedTokenLookup()
        self.lookup.max_tokens = MAX_TOKENS
        self.lookup._find_revoked = self.find_revoked
        self.revoked: set[str] = set()
        self.requests: list[Request] = []
        self.batch: list[str] | None = None
        self.began, self.go = threading.Semaphore(0), threading.Semaphore(0)
        self.alone = threading.Lock()
        self.overlapped = False
        self.reply: set[str] | BaseException = set()

    @staticmethod
    def forget_cache() -> None:
        if get_cache := getattr(revoked_token, "get_revoked_token_cache", None):
            get_cache.cache_clear()

    def find_revoked(self, jtis: list[str]) -> set[str]:
        """Stand for the database, in the thread of the lookup."""
        if not self.alone.acquire(blocking=False):
            self.overlapped = True
        self.asked = list(jtis)
        self.seen = set(self.revoked)
        self.began.release()
        self.go.acquire(timeout=TIMEOUT)
        self.alone.release()
        if isinstance(self.reply, BaseException):
            raise self.reply
        return self.reply

    def spin(self) -> None:
        """Let the event loop do what it has to do now."""

        async def turns() -> None:
            for _ in range(5):
                await asyncio.sleep(0)

        self.loop.run_until_complete(turns())

    def settle(self) -> None:
        """Wait until a query has begun, if any request waits."""
        self.spin()
        if self.batch is not None or not self.requests:
            return
        assert self.began.acquire(timeout=TIMEOUT), "a request waits, and no query begins"
        assert not self.overlapped, "two queries at once"
        self.batch = self.asked
        assert len(set(self.batch)) == len(self.batch) <= MAX_TOKENS
        for request in self.requests:
            request.taken = request.jti in self.batch
        assert {request.jti for request in self.requests if request.taken} == set(self.batch)

    def end(self, reply: set[str] | BaseException) -> list[Request]:
        """End the query that is under way; return the requests that waited for it."""
        self.reply, self.batch = reply, None
        taken = [request for request in self.requests if request.taken]
        self.requests = [request for request in self.requests if not request.taken]
        self.go.release()
        if taken:
            waited = asyncio.wait([request.task for request in taken], timeout=TIMEOUT)
            _, waiting = self.loop.run_until_complete(waited)
            assert not waiting, "a query has ended, and a request that it was for still waits"
        assert not any(request.task.done() for request in self.requests)
        return taken

    @rule(jti=TOKENS)
    def come(self, jti):
        async def start() -> asyncio.Task:
            return asyncio.create_task(self.lookup.is_revoked(jti))

        task = self.loop.run_until_complete(start())
        self.requests.append(Request(jti, jti in self.revoked, task))
        self.settle()

    @rule(jti=TOKENS)
    def revoke(self, jti):
        self.revoked.add(jti)

    @precondition(lambda self: self.requests)
    @rule(data=st.data())
    def cancel(self, data):
        request = data.draw(st.sampled_from(self.requests))
        self.requests.remove(request)
        request.task.cancel()
        self.loop.run_until_complete(asyncio.wait([request.task], timeout=TIMEOUT))
        assert request.task.cancelled()
        self.settle()

    @precondition(lambda self: self.batch is not None)
    @rule(at_the_end=st.booleans())
    def answer(self, at_the_end):
        for request in self.end(set(self.revoked) if at_the_end else self.seen):
            answer = request.task.result()
            assert answer or not request.revoked_before, "an answer older than its request"
            assert not answer or request.jti in self.revoked
        self.settle()

    @precondition(lambda self: self.batch is not None)
    @rule(error=ERRORS)
    def fail(self, error):
        told = [request.task.exception() for request in self.end(error("gone"))]
        assert {type(one) for one in told} <= {RuntimeError if error is SystemExit else error}
        assert len({id(one) for one in told}) == len(told)
        self.settle()

    def teardown(self) -> None:
        try:
            while self.batch is not None:
                self.answer(at_the_end=False)
            assert self.requests == []
            for thread in threading.enumerate():
                if thread.name == "revoked-tokens":
                    thread.join(TIMEOUT)
                    assert not thread.is_alive()
            assert not self.lookup._waiting
        finally:
            self.loop.close()
            self.no_cache.__exit__(None, None, None)
            self.forget_cache()


def test_requests_errors_cancellations_and_revocations_in_any_order():
    run_state_machine_as_test(
        Lookups,
        settings=settings(
            max_examples=150,
            stateful_step_count=40,
            deadline=None,
            database=None,
            derandomize=True,
            # A lost request is waited for at each attempt, so what fails is not made smaller.
            phases=[Phase.generate],
            report_multiple_bugs=False,
        ),
    )
