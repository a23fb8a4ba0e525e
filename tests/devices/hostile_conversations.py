"""Talk to hostile agents and hosts, and print what came of each conversation as a line of JSON.

Run as `python hostile_conversations.py FOLDER N_AGENTS N_HOSTS` in a private PID and network namespace; it refuses to
run elsewhere, because a fault that it looks for kills every process it can reach.
"""

from __future__ import annotations

import base64
import contextlib
import json
import logging
import os
import random
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import hostile_server
import paramiko

from devices import adb, adb_client, process, remote_files, scripts, sftp, ssh, ssh_channel
from devices import ssh_connect as ssh_link
from devices.adb import AdbDevice
from devices.adb_client import list_phones
from devices.errors import DeviceError
from devices.local import LocalDevice
from devices.remote_options import RemoteOptions
from devices.ssh import SshDevice
from devices.ssh_config import Host, resolve
from profiler.agent_runner import AgentRunner
from profiler.replies import MAX_RUN_NS
from profiler.runner import Visit

N_AT_ONCE = 6  # mostly they wait
PHONE_FAULTS = (
    "none: ", "devices: endless", "features: noise", "features: fails", "shell: endless", "shell: endless stderr",
    "shell: group 1", "shell: path", "shell: garbage", "push: fails",
)  # fmt: skip
AGENT = Path(__file__).with_name("hostile_agent.py")


def attempt(step: Callable[[], Any], outcome: dict[str, Any]) -> Any:
    """Do a step; a `DeviceError` is an answer, any other error is a fault of ours."""
    try:
        return step()
    except DeviceError as error:
        outcome["errors"].append(str(error)[:300])
    except Exception:
        outcome["faults"].append(traceback.format_exc()[-1500:])
    return None


def agent_conversation(seed: int, folder: Path, outcome: dict[str, Any]) -> None:
    model = folder / f"model{seed}.json"
    model.write_text("{}")
    with LocalDevice() as device:
        runner = AgentRunner(
            device, "sleep", timeout_s=1.0, program=lambda _: [sys.executable, "-I", "-S", str(AGENT), str(seed)]
        )
        attempt(runner.open, outcome)
        handle = attempt(lambda: runner.load(model, threads=1, cpus=None), outcome)
        if handle is not None:
            results = attempt(lambda: runner.run([Visit(handle, 0, 3)] * 3), outcome)
            for result in results or []:
                assert result.wall_ns.shape == (3,)
                assert (result.wall_ns >= 1).all()
                assert (result.wall_ns <= MAX_RUN_NS).all()
            attempt(lambda: runner.unload(handle), outcome)
        attempt(runner.close, outcome)


def host_conversation(host: Host, folder: Path, outcome: dict[str, Any]) -> None:
    device = attempt(lambda: SshDevice(host, RemoteOptions(pauses_s=(0,), sleep=lambda _: None)), outcome)
    if device is None:
        return
    source, back = folder / "source", folder / "back"
    source.write_bytes(b"x" * 5000)
    try:
        attempt(lambda: device.run(["echo", "x"], timeout_s=2), outcome)
        channel = attempt(lambda: device.start(["cat"]), outcome)
        if channel is not None:
            attempt(lambda: channel.write_line("x"), outcome)
            attempt(lambda: channel.read_line(1), outcome)
            attempt(channel.kill, outcome)
            attempt(lambda: channel.wait(1), outcome)
        attempt(lambda: device.push(source, "models/x"), outcome)
        attempt(lambda: device.pull("models/x", back), outcome)
        attempt(device.facts, outcome)
    finally:
        attempt(device.close, outcome)


def phone_conversation(folder: Path, outcome: dict[str, Any]) -> None:
    (folder / "phone").mkdir(exist_ok=True)
    source = folder / "source"
    source.write_bytes(b"x" * 5000)
    attempt(list_phones, outcome)
    device = attempt(
        lambda: AdbDevice("X1", RemoteOptions(parent_dir=str(folder / "phone"), pauses_s=(0,), sleep=lambda _: None)),
        outcome,
    )
    if device is None:
        return
    try:
        attempt(lambda: device.run(["echo", "x"], timeout_s=2), outcome)
        channel = attempt(lambda: device.start(["cat"]), outcome)
        if channel is not None:
            attempt(lambda: channel.write_line("x"), outcome)
            attempt(lambda: channel.read_line(1), outcome)
            attempt(channel.kill, outcome)
        attempt(lambda: device.push(source, "models/x"), outcome)
        attempt(lambda: device.pull("models/x", folder / "back"), outcome)
        attempt(device.facts, outcome)
    finally:
        attempt(device.close, outcome)


def meet_phones(folder: Path) -> None:
    """One phone after another, through the adb client of `hostile_adb.py`."""
    (folder / "bin").mkdir()
    (folder / "bin" / "adb").symlink_to(Path(__file__).with_name("hostile_adb.py"))
    os.environ["PATH"] = f"{folder / 'bin'}:{os.environ['PATH']}"
    for fault in PHONE_FAULTS:
        os.environ["HOSTILE_ADB"] = fault
        told(f"phone {fault}", partial(phone_conversation, folder))


def known_host(listener: hostile_server.Listener, home: Path) -> Host:
    (home / ".ssh").mkdir(mode=0o700, parents=True)
    key = paramiko.ECDSAKey.generate()
    key.write_private_key_file(str(home / ".ssh" / "id"))
    known = (
        f"[127.0.0.1]:{listener.port} {listener.key.get_name()} {base64.b64encode(listener.key.asbytes()).decode()}\n"
    )
    (home / ".ssh" / "known_hosts").write_text(known)
    host = resolve(f"root@127.0.0.1:{listener.port}")
    return replace(
        host, keys=(str(home / ".ssh" / "id"),), only_keys=True, known_hosts=(home / ".ssh" / "known_hosts",)
    )


def plans(n_hosts: int) -> list[tuple[str, dict[str, Any]]]:
    """Each single fault, and then mixtures by seed."""
    listed: list[tuple[str, dict[str, Any]]] = [(f"before: {kind}", {"before": kind}) for kind in hostile_server.BEFORE]
    listed += [(f"exec: {kind}", {"faults": {0: kind}}) for kind in hostile_server.EXEC]
    listed += [(f"start: {kind}", {"faults": {3: kind}}) for kind in ("group 1", "endless stderr", "cut")]
    listed += [(f"sftp: {kind}", {"faults": {"sftp": kind}}) for kind in hostile_server.SFTP]
    listed += [(f"seed {seed}", {"share": 0.3}) for seed in range(max(0, n_hosts - len(listed)))]
    return listed[:n_hosts]


def told(name: str, converse: Callable[[dict[str, Any]], None]) -> None:
    outcome: dict[str, Any] = {"name": name, "errors": [], "faults": []}
    start = time.monotonic()
    attempt(lambda: converse(outcome), outcome)
    outcome["seconds"] = time.monotonic() - start
    sys.stdout.write(json.dumps(outcome) + "\n")


def be_impatient() -> None:
    """Shorten the waits for a host, so that the tests end soon."""
    limits = (
        (ssh, "_START_S"), (ssh_channel, "_WRITE_TIMEOUT_S"), (sftp, "OPEN_S"), (sftp, "QUIET_S"),
        (scripts, "ANSWER_S"), (remote_files, "PULL_S"), (remote_files, "CHECK_S"),
    )  # fmt: skip
    for module, name in limits:
        assert hasattr(module, name)
        setattr(module, name, 1.5)
    ssh_link.CONNECT_TIMEOUT_S = 2.0
    adb._START_S = adb._PUSH_S = 1.5
    for function in (adb_client.adb, AdbDevice._adb):
        function.__kwdefaults__["timeout_s"] = 1.5
    process.MAX_OUTPUT_BYTES = 1 << 22


def main() -> None:
    if os.getpid() != 1:
        sys.exit("this must be the first process of a private PID namespace")
    folder, n_agents, n_hosts = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    logging.getLogger("paramiko").setLevel(logging.CRITICAL)
    canary = subprocess.Popen(["sleep", "3600"], start_new_session=True)
    free: SimpleQueue[hostile_server.Listener] = SimpleQueue()
    hosts: dict[hostile_server.Listener, Host] = {}
    for i in range(N_AT_ONCE):
        (folder / f"remote{i}").mkdir()
        listener = hostile_server.Listener(folder / f"remote{i}")
        hosts[listener] = known_host(listener, folder / f"home{i}")
        free.put(listener)

    def meet(seed: int, name: str, plan: dict[str, Any]) -> None:
        listener = free.get()
        listener.expect(random.Random(seed), **plan)
        told(f"host {name}", lambda outcome: host_conversation(hosts[listener], listener.folder, outcome))
        free.put(listener)

    for fault in ("", "chatter"):
        meet(0, fault or "honest", {"faults": {0: fault}})
    be_impatient()
    with ThreadPoolExecutor(N_AT_ONCE) as pool:
        for seed in range(n_agents):
            pool.submit(told, f"agent {seed}", partial(agent_conversation, seed, folder))
        for seed, (name, plan) in enumerate(plans(n_hosts)):
            pool.submit(meet, seed, name, plan)
    meet_phones(folder)
    sys.stdout.write(json.dumps({"canary": canary.poll() is None}) + "\n")
    sys.stdout.flush()
    with contextlib.suppress(ProcessLookupError):
        canary.kill()
    os._exit(0)


if __name__ == "__main__":
    main()
