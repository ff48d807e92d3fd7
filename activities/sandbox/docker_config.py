"""What a container of ours may do: as little as code needs. Pure; the values are in `base`."""

from typing import Any

from docker import APIClient
from docker.types import LogConfig, Ulimit

from activities.sandbox.base import MEMORY_BYTES, OPEN_FILES, PROCESSES, TMP_BYTES, Language
from activities.sandbox.bpf import profile_text
from activities.sandbox.program import ENVIRONMENT, LONGEST_STOP, PROGRAMS, launcher

USER = "65534:65534"
CPUS = 0.5
SHM_BYTES = 1024 * 1024
INODES = 4096
"""Files in /tmp: an empty file costs memory of the kernel."""


def create_arguments(
    client: APIClient, language: Language, image: str, runtime: str | None, labels: dict[str, str], wait_seconds: int
) -> dict[str, Any]:
    """The arguments of `APIClient.create_container`, but the name. They are the same for every job of a language."""
    program = PROGRAMS[language]
    return {
        "image": image,
        # An image's own entry point must not run, nor its health check.
        "entrypoint": launcher(language, program, "/tmp", wait_seconds),  # noqa: S108 - in the container
        "command": [],
        "healthcheck": {"test": ["NONE"]},
        "user": USER,
        "working_dir": "/tmp",  # noqa: S108 - in the container
        "hostname": "sandbox",
        "environment": ENVIRONMENT,
        "labels": labels,
        # Open for one connection: when that ends, as it does with its worker, the container reads the end of it.
        "stdin_open": True,
        "network_disabled": True,
        # Else docker.py would hand over the proxies of ~/.docker/config.json, passwords and all.
        "use_config_proxy": False,
        "host_config": client.create_host_config(
            network_mode="none",
            mem_limit=MEMORY_BYTES,
            memswap_limit=MEMORY_BYTES,
            nano_cpus=int(CPUS * 1e9),
            pids_limit=PROCESSES,
            read_only=True,
            tmpfs={"/tmp": f"rw,noexec,nosuid,nodev,size={TMP_BYTES},nr_inodes={INODES},mode=1777"},  # noqa: S108
            shm_size=SHM_BYTES,
            ulimits=[
                Ulimit(name="nofile", soft=OPEN_FILES, hard=OPEN_FILES),
                Ulimit(name="core", soft=0, hard=0),
                # The second clock: should `timeout` ever be disabled, nothing computes longer than this. The launcher
                # lowers it to the job's own hard stop.
                Ulimit(name="cpu", soft=LONGEST_STOP, hard=LONGEST_STOP),
            ],
            cap_drop=["ALL"],
            security_opt=["no-new-privileges:true", f"seccomp={profile_text()}"],
            init=True,
            ipc_mode="private",
            cgroupns="private",
            # The usual log would keep a second copy of all output on the disk of the host, without a limit.
            log_config=LogConfig(type="none"),
            # If the machine itself runs out of memory, the sandbox goes first.
            oom_score_adj=1000,
            runtime=runtime,
        ),
    }
