# SPDX-License-Identifier: Apache-2.0
"""The rows of the kill matrix that are the same whichever service trains."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import product

from tests.harness.cluster_training import Stage, Training
from tests.harness.proxy_faults import BlackHole, Broken, Canned, Drip, Hold, Point, ScriptedProxy
from tests.harness.waiting import wait_for

TOLD_WITHIN = 15.0
GRACE = 2.0

PUSH = r"^POST /execution/xcoms/{dag}/.*training_job_id"
DEFER = r"^PATCH /execution/task-instances/{ti}/state"

BROKEN = ("refused", "reset", "hole", "busy", "gateway", "loris")
"""The faults of :func:`broken`, each of which has a DAG ``kills_<name>``."""

WAYS = tuple(f"kills_way_{number}" for number in range(1, 5))
"""DAGs, each with a way of its own to the service."""

LIMITS = {"kills_timeout": "timeout of 0:00:08", "kills_execution_timeout": "execution_timeout of 0:00:12"}
"""DAGs, and what their errors say."""


def begin(training: Training, lines: int = 10) -> tuple[Training, str]:
    """Wait until a training is deferred and shows its first lines."""
    job = training.wait_for_job()
    training.wait("deferred")
    training.wait_for_lines(job, lines)
    return training, job


def at_once(*parts: Callable[[], None]) -> None:
    """Do the parts of a row at the same time."""
    with ThreadPoolExecutor() as pool:
        for done in [pool.submit(part) for part in parts]:
            done.result()


def finish(*begun: tuple[Training, str], tries: int = 1) -> None:
    """The logs go on; the trainings end well, in this try, as one job each."""
    wanted = [len(training.shown(job, tries)) + 20 for training, job in begun]
    for (training, job), lines in zip(begun, wanted, strict=True):
        training.wait_for_lines(job, lines, tries, seconds=120)
        training.finish(job)
    for training, job in begun:
        assert training.wait("success", seconds=120)["try_number"] == tries
        training.check_lines(job, tries)
        assert training.check("SUCCESSFUL") == [job]


# Row 1


@dataclass
class Attack:
    """One way to harm a worker, and what must come of it."""

    training: Training
    held: Hold
    tries: int
    ends: tuple[str, ...] = ("SUCCESSFUL",)
    of_airflow: bool = False
    """Whether it is a request to Airflow's API that is held, which the worker's supervisor sends."""

    def strike(self) -> None:
        """Kill the worker that waits for the held request."""
        pid = self.held.wait().pid()
        (self.training.kill_worker if self.of_airflow else self.training.kill)(pid)
        self.held.wait_for_hangup()

    def finish(self) -> None:
        """The task goes on in the try that is expected, and its job may end."""
        self.training.wait("deferred", attempt=self.tries, seconds=120)
        self.training.wait_for_job(count=len(self.ends))
        self.training.finish_newest()

    def check(self) -> None:
        """The task succeeds in that try, with these jobs."""
        assert self.training.wait("success")["try_number"] == self.tries
        jobs = self.training.check(*self.ends)
        self.training.check_lines(jobs[-1], self.tries)
        for attempt in range(1, self.tries):
            self.training.check_lines(jobs[0], attempt, least=0)


def outlive(attacks: Sequence[Attack]) -> None:
    """Each task goes on and succeeds."""
    with ExitStack() as stack:
        for attack in attacks:
            stack.enter_context(attack.held)
            attack.finish()
        for attack in attacks:
            attack.check()


def kill_workers_around_the_submit(
    stage: Stage, ways: Sequence[ScriptedProxy], requests: Sequence[str] = (), dags: Sequence[str] = WAYS[2:]
) -> None:
    """Before the request, after the service did it, at the push of the job's id, at the deferral and after it.

    :param requests: At most two of the submit; by default the one that creates the job.
    :param dags: For the last three, on other ways than those.
    """
    attacks = []
    for number, (request, point) in enumerate(product(requests or [stage.remote.creates], Point)):
        held = ways[number].hold(request, point)
        attacks.append(Attack(stage.train(f"kills_way_{number + 1}"), held, tries=2))
    with ThreadPoolExecutor() as pool:
        # As soon as they are held: a client hangs up by itself after some time.
        struck = [pool.submit(attack.strike) for attack in attacks]
        for number, (when, point, tries) in enumerate(
            [(PUSH, Point.REQUEST, 2), (DEFER, Point.REQUEST, 2), (DEFER, Point.ANSWER, 1)]
        ):
            training = stage.train(dags[number % len(dags)])
            held = stage.control.hold(when.format(ti=training.task()["id"], dag=training.dag_id), point)
            attacks.append(Attack(training, held, tries, of_airflow=True))
            attacks[-1].strike()
        for each in struck:
            each.result()
    outlive(attacks)


# Row 3


def kill_the_triggerer(stage: Stage, begun: Sequence[tuple[Training, str]], times: int = 2) -> None:
    """In the middle of the logs of these trainings, which end well."""
    for _ in range(times):
        before = [len(training.shown(job)) for training, job in begun]
        stage.cluster.triggerers[0].kill()
        stage.cluster.start_triggerer(0)
        for (training, job), lines in zip(begun, before, strict=True):
            training.wait_for_lines(job, lines + 20)
    for training, job in begun:
        training.finish(job)
    for training, job in begun:
        assert training.wait("success")["try_number"] == 1
        training.check_lines(job, 1)
        assert training.check("SUCCESSFUL") == [job]


# Row 6


@dataclass
class Wish:
    """A job of a first try that a user no longer wants; ``shown`` lines of it were shown then."""

    training: Training
    job: str
    shown: int
    at: float

    def check_stopped(self) -> None:
        """It is told so within 15 seconds, and gone within the service's grace; its lines stay shown."""
        remote = self.training.remote
        stops = wait_for(
            f"{self.training.name} is told to stop", lambda: remote.told_to_stop(self.job), TOLD_WITHIN + 5, 0.1
        )
        assert stops[0] - self.at < TOLD_WITHIN
        left = stops[0] + GRACE + 3.0 - time.monotonic()
        wait_for(f"nothing of {self.training.name} runs", lambda: not remote.alive(self.job), max(left, 0.1), 0.1)
        remote.wait_for(self.job, "STOPPED")
        self.training.check_lines(self.job, 1, least=self.shown)
        self.training.stage.tally.kills += 1


def deferred(*trainings: Training) -> list[str]:
    """Wait until trainings run and their tasks are deferred; answers their jobs."""
    jobs = [training.wait_for_job() for training in trainings]
    for training in trainings:
        training.wait("deferred")
    return jobs


def act(training: Training, job: str, action: Callable[[], None]) -> Wish:
    """Do what a user does, and note when."""
    shown = len(training.shown(job))
    at = time.monotonic()
    action()
    return Wish(training, job, shown, at)


def mark_tasks_and_runs(stage: Stage) -> None:
    """Failed, success, the whole run failed; then the run is deleted and made again under its id."""
    trainings = [stage.train(env={"stubborn": number % 2}) for number in range(3)]
    jobs = deferred(*trainings)
    for training, job in zip(trainings, jobs, strict=True):
        # Airflow forgets a trigger that no triggerer has taken up, and with it the wish: see the compatibility table.
        training.wait_for_lines(job, 1)
    failed, done, run_failed = trainings
    wishes = [
        act(failed, jobs[0], lambda: failed.mark("failed")),
        act(done, jobs[1], lambda: done.mark("success")),
        act(run_failed, jobs[2], lambda: run_failed.mark_run("failed")),
    ]
    for wish in wishes:
        wish.check_stopped()
    failed.check("STOPPED", state="failed")
    done.check("STOPPED", state="success")
    run_failed.check("STOPPED", state="failed")

    failed.delete_run()
    again = stage.train(run_id=failed.run_id, name=failed.name)
    assert again.run_id == failed.run_id
    job = again.wait_for_job(count=2)
    again.end()
    again.check_lines(job, 1)
    again.check("STOPPED", "SUCCESSFUL")


def clear_deferred_tasks(stage: Stage) -> None:
    """Once, and twice in a row."""
    once, twice = (stage.train() for _ in range(2))
    jobs = deferred(once, twice)
    wishes = [act(once, jobs[0], once.clear), act(twice, jobs[1], twice.clear)]
    twice.clear()
    for wish in wishes:
        wish.check_stopped()
    fresh = []
    for training in (once, twice):
        fresh.append(training.wait_for_job(count=len(training.wait_for_fresh_job(jobs))))
        training.wait("deferred")
        training.finish_newest()
    for training, job in zip((once, twice), fresh, strict=True):
        attempt = training.wait("success")["try_number"]
        assert attempt >= 2
        training.check_lines(job, attempt)
        assert not stage.remote.told_to_stop(job)
    once.check("STOPPED", "SUCCESSFUL")
    *stopped, last = [job.status for job in twice.jobs()]
    assert set(stopped) == {"STOPPED"}
    assert last == "SUCCESSFUL"


def clear_while_submitting(stage: Stage, dag_id: str, way: ScriptedProxy) -> None:
    """The service has the job, and its answer is on the way."""
    with way.hold(stage.remote.creates, Point.ANSWER) as held:
        training = stage.train(dag_id)
        held.wait()
        job = training.wait_for_job()
        wish = act(training, job, training.clear)
        wish.check_stopped()
    fresh = training.wait_for_job(count=2)
    training.end()
    training.check_lines(fresh, training.task()["try_number"])
    training.check("STOPPED", "SUCCESSFUL")
    assert not stage.remote.told_to_stop(fresh)


# Row 7


def check_limits(running: Sequence[tuple[Training, str]], waiting: Sequence[tuple[Training, str]]) -> None:
    """Each of these trainings is stopped at its limit, which its error names; those that waited never began."""
    trainings = [*running, *waiting]
    for training, limit in trainings:
        training.wait("failed")
        assert any(limit in text for text in training.log()), training.log()
    for training, _ in trainings:
        (job,) = training.check("STOPPED", state="failed")
        assert training.remote.told_to_stop(job)
        training.check_lines(job, 1)
        assert training.remote.job(job).started == bool(training.lines(job))
    started = [training.jobs()[0].started for training, _ in trainings]
    assert started == [True] * len(running) + [False] * len(waiting)


# Row 8


def fail_twice(trainings: Sequence[Training]) -> None:
    """Each retry has a job of its own; the third ends well."""
    for number in (1, 2, 3):
        for training in trainings:
            job = training.wait_for_job(count=number)
            training.wait("deferred", attempt=number)
            training.finish(job, code=0 if number == 3 else number)
    for training in trainings:
        assert training.wait("success")["try_number"] == 3
        jobs = training.check("FAILED", "FAILED", "SUCCESSFUL")
        for attempt, job in enumerate(jobs, 1):
            training.check_lines(job, attempt)


# Row 11


def refuse_once(training: Training, job: str, way: ScriptedProxy, refuse: Callable[[], object]) -> None:
    """A token that would last is refused in the middle of a log, which goes on after one login more.

    :param way: Nobody else takes it, and its tokens end long after the test.
    :param refuse: Makes the service refuse the token with which the job is followed.
    """
    before = len(way.sent(training.remote.logins))
    refuse()
    wait_for("another login", lambda: len(way.sent(training.remote.logins)) > before, 30)
    training.wait_for_lines(job, len(training.shown(job)) + 30)
    assert len(way.sent(training.remote.logins)) == before + 1
    assert not any("Contact" in text for text in training.log())


# Row 12


@contextmanager
def broken(ways: Mapping[str, ScriptedProxy], looks: str) -> Iterator[None]:
    """A network that is broken in each of the ways.

    :param ways: By the names of :data:`BROKEN`.
    :param looks: The requests that are meant.
    """
    with ExitStack() as faults:
        ways["refused"].refuse()
        faults.callback(ways["refused"].accept)
        ways["gateway"].next(*[Canned(502), Canned(504)] * 3, when=looks)
        for name, fault in (
            ("reset", Broken(after=600)),
            ("hole", BlackHole()),
            ("busy", Canned(429, {"Retry-After": "2"})),
            ("gateway", Canned(503)),
            ("loris", Drip(0.5)),
        ):
            faults.enter_context(ways[name].always(fault, looks))
        yield


def outlast(seconds: float, ways: Mapping[str, ScriptedProxy], looks: str, trainings: Sequence[Training]) -> None:
    """Wait out a broken network: the tasks stay deferred, and ``Retry-After`` is kept."""
    began = time.monotonic()
    wait_for("the outage is over", lambda: time.monotonic() > began + seconds, seconds + 10, 1.0)
    sent = [f"{each.at - began:.1f} {each.line}" for each in ways["busy"].sent(looks, began + 5)]
    assert 2 < len(sent) <= seconds / 2, "Retry-After is not kept: " + "\n".join(sent)
    for training in trainings:
        assert training.task()["state"] == "deferred"
