# SPDX-License-Identifier: Apache-2.0
"""One training job of the double, in a process of its own that outlives the server.

It goes through the states, fetches the code from OBS, runs the boot file on each "node" (a process with directories of
its own), stamps each line of output with a strictly increasing number of nanoseconds, and writes down how it ended.
"""

from __future__ import annotations

import fcntl
import json
import sys
import threading
import time
from pathlib import Path
from typing import IO, Any

from tests.harness.modelarts import lines
from tests.harness.modelarts.faults import Faults
from tests.harness.modelarts.nodes import Node
from tests.harness.modelarts.obs import Obs

TICK = 0.02


class Stopped(Exception):
    """Someone stopped the job."""


class NodeLog:
    """The log of a node: one ``[nanoseconds, text]`` a line."""

    def __init__(self, place: Path) -> None:
        place.parent.mkdir(parents=True, exist_ok=True)
        self._file = place.open("a")
        self._lock = threading.Lock()
        self._last = 0
        self.length = 0

    def write(self, text: str) -> None:
        with self._lock:
            self._last = max(self._last + 1, time.time_ns())
            self._file.write(json.dumps([self._last, text]) + "\n")
            self._file.flush()

    def follow(self, output: IO[bytes]) -> None:
        """Write down every line of a process until it closes its output."""
        for line in output:
            self.length += len(line)
            self.write(line.decode(errors="replace").removesuffix("\n"))


class Runner:
    """Runs a job.

    :param place: The job's directory, with its ``spec.json``.
    """

    def __init__(self, place: Path) -> None:
        self.place = place
        self.spec: dict[str, Any] = json.loads((place / "spec.json").read_text())
        self.obs = Obs(self.spec["obs"])
        self.logs = [NodeLog(lines.place_of(place, index)) for index in range(self.spec["nodes"])]

    def run(self) -> None:
        """From the first state to the last."""
        try:
            image = ("image",) if self.spec["command"] else ()
            for state in ("creating", *image, "trying", "waiting"):
                self._event(state)
                self._pause(self.spec["pace"])
            while self._sold_out():
                self._pause(TICK)
            self._event("running")
            codes, message = self._train()
        except Stopped:
            self._event("stopping")
            time.sleep(self.spec["pace"])
            self._event("stopped")
            return
        self._event("failed" if any(codes) else "completed", exit_codes=codes, message=message)

    def _train(self) -> tuple[list[int], str]:
        nodes = [Node(self.place, self.spec, index, self.obs) for index in range(self.spec["nodes"])]
        for node, log in zip(nodes, self.logs, strict=True):
            log.write("[Modelarts Service Log]Training start.")
            if trouble := node.prepare():
                for text in trouble:
                    log.write(text)
                self._export_logs()
                return [1] * len(nodes), trouble[-1]
        threads = []
        for node, log in zip(nodes, self.logs, strict=True):
            threads.append(threading.Thread(target=log.follow, args=(node.start(),), daemon=True))
            threads[-1].start()
        try:
            codes, message = self._wait(nodes)
        finally:
            for node in nodes:
                node.end(self.spec["grace"])
            for thread in threads:
                thread.join(10)
            self._export_logs()
        for node, log, code in zip(nodes, self.logs, codes, strict=True):
            node.upload()
            for text in lines.at_the_end(self.spec, code, log.length):
                log.write(text)
        self._export_logs()
        return codes, message

    def _wait(self, nodes: list[Node]) -> tuple[list[int], str]:
        """Wait for all nodes; if one fails, end the others."""
        while True:
            codes = [node.code() for node in nodes]
            if all(code is not None for code in codes) or any(codes):
                break
            self._pause(TICK)
        failed = [f"task worker-{index} exit with {code}" for index, code in enumerate(codes) if code]
        for node in nodes:
            node.end(self.spec["grace"])
        return [int(node.code() or 0) for node in nodes], f"Training job failed: {failed[0]}." if failed else ""

    def _export_logs(self) -> None:
        if not self.spec["log_url"]:
            return
        for index, name in enumerate(self.spec["log_files"]):
            content = "".join(f"{text}\n" for _, text in lines.read(self.place, index))
            # v2 names the exported file by the job, v1 by the log itself.
            prefix = f"modelarts-job-{self.spec['job_id']}-" if self.spec["dialect"] == "v2" else ""
            self.obs.put(f"{self.spec['log_url']}{prefix}{name}.log", content.encode())

    def _sold_out(self) -> bool:
        return bool(self.spec["sold_out"]) or Faults(Path(self.spec["faults"])).sold_out(self.spec["flavor"])

    def _pause(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while True:
            if (self.place / "stop").exists():
                raise Stopped
            if (rest := deadline - time.monotonic()) <= 0:
                return
            time.sleep(min(TICK, rest))

    def _event(self, state: str, **more: Any) -> None:
        with (self.place / "events.jsonl").open("a") as file:
            file.write(json.dumps({"time": time.time_ns() // 10**6, "state": state} | more) + "\n")


def main(place: Path) -> None:
    """Run the job of a directory, once."""
    with (place / "lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        if not (place / "events.jsonl").exists():
            Runner(place).run()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
