"""OffGridFlow as it runs: PostgreSQL, sidecar and Dagster daemon as processes of their own, each of which can be killed.

One fictional company of the demonstration, one month of its bills. Mail goes to a real SMTP server, telemetry to a real
OTLP receiver.
"""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import httpx2
import psutil
import sqlalchemy as sa
from pydantic import SecretStr

from offgridflow_pipeline.cli.dagster_home import prepare, project_root
from offgridflow_pipeline.connectors.connections import to_row
from offgridflow_pipeline.database.engine import Database, connect
from offgridflow_pipeline.database.server import cluster, embedded
from offgridflow_pipeline.demo.generator import generate
from offgridflow_pipeline.demo.tenants import DemoTenant
from offgridflow_pipeline.identity import accounts, api_keys
from offgridflow_pipeline.identity.permissions import key_permissions
from offgridflow_pipeline.settings import Settings
from offgridflow_pipeline_tests.counterparts.otlp import Collector
from offgridflow_pipeline_tests.counterparts.postgres import cluster_folder, without_durability
from offgridflow_pipeline_tests.counterparts.processes import free_port, wait_until_ready
from offgridflow_pipeline_tests.counterparts.smtp import MailServer

if TYPE_CHECKING:
    from playwright.sync_api import Page

MONTH = "2026-10"
#: The installation's history begins within the month: its report is of a few days, and is made in less time.
FIRST, LAST = "2026-10-25", "2026-10-31"
OWNER, PASSWORD = "ada@alder.example", "violet-lamp-river"
#: Seconds that a run may be silent here; the watchdog needs a third more.
RUN_SILENT_SECONDS = "10"
_BETWEEN_STEPS = sa.text(
    "select r.run_id from runs r join run_tags t on t.run_id = r.run_id and t.key = 'offgridflow/job'"
    " where t.value = :job and r.status = 'STARTED' and exists (select from event_logs e"
    " where e.run_id = r.run_id and e.dagster_event_type = 'STEP_SUCCESS')"
)
_LINK = re.compile(r"(https?://\S+token=\S+)")


@dataclass
class Stack:
    """The running installation."""

    folder: Path
    tenant: DemoTenant
    settings: Settings
    environment: dict[str, str]
    database: Database
    mail: MailServer
    port: int
    key: str = field(default="", repr=False)
    _processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """Where people reach it."""
        return self.settings.public_url

    def start_sidecar(self) -> None:
        """Serve API and portal; returns when it answers."""
        process, log = self._start("sidecar", "offgridflow", "serve", "--port", str(self.port))
        wait_until_ready("sidecar", process, log, lambda: socket.create_connection(("127.0.0.1", self.port), 1))
        until(lambda: httpx2.get(f"{self.url}/readyz").status_code == 200 or None, 30, "a ready sidecar")

    def start_daemon(self) -> None:
        """Run Dagster's sensors, queue and launcher."""
        self._start("daemon", "dagster-daemon", "run", "-w", str(project_root() / "workspace.yaml"))

    def kill(self, name: str) -> None:
        """SIGKILL the process and everything it started."""
        process = self._processes.pop(name)
        family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        for member in family:
            with suppress(psutil.NoSuchProcess):
                member.kill()
        process.wait(20)

    def cut_power(self) -> None:
        """SIGKILL everything at one moment; then start it again, as a machine that comes back does."""
        self.kill("daemon")  # its children are the code server and the run workers
        self.kill("sidecar")
        self.kill_database()
        self.start_sidecar()
        self.start_daemon()

    def kill_run_workers(self) -> int:
        """SIGKILL the processes that execute runs now (the code server spawns them); how many there were."""
        found = [
            p for p in psutil.process_iter(["cmdline", "environ"])
            if "spawn_main" in " ".join(p.info["cmdline"] or ()) and self._ours(p)
        ]  # fmt: skip
        for worker in found:
            with suppress(psutil.NoSuchProcess):
                worker.kill()
        return len(found)

    def kill_database(self) -> None:
        """SIGKILL PostgreSQL, all of it, and start it again."""
        data = self.settings.postgres_dir
        for pid in cluster.postgres_processes(data):
            with suppress(psutil.NoSuchProcess):
                psutil.Process(pid).kill()
        deadline = time.monotonic() + 20
        while cluster.postgres_processes(data) and time.monotonic() < deadline:
            time.sleep(0.05)
        embedded.start(data)

    def stop(self) -> None:
        """End every process."""
        for name in list(self._processes):
            process = self._processes[name]
            process.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                process.wait(20)
            with suppress(psutil.NoSuchProcess):
                self.kill(name)
        self.database.close()
        embedded.stop(self.settings.postgres_dir)

    def api(self, method: str, path: str, **arguments: Any) -> httpx2.Response:
        """A request with the company's API key."""
        headers = {"Authorization": f"Bearer {self.key}", **arguments.pop("headers", {})}
        return httpx2.request(method, f"{self.url}{path}", headers=headers, timeout=30, **arguments)

    def ask_for(self, job_type: str, payload: dict[str, Any]) -> str:
        """Ask for a run with the API key; returns the job's id."""
        answer = self.api(
            "POST", "/v1/runs", json={"type": job_type, "payload": payload},
            headers={"Idempotency-Key": str(uuid.uuid4())},
        )  # fmt: skip
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])

    def job_status(self, job_id: str) -> dict[str, Any]:
        """The job as the API tells it."""
        answer = self.api("GET", f"/v1/runs/{job_id}")
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def wait_for_job(self, job_id: str, seconds: float = 150) -> dict[str, Any]:
        """The job when it has ended; a pause before another attempt is cut short."""

        def ended() -> dict[str, Any] | None:
            found = self.job_status(job_id)
            if found["status"] == "pending" and found["error"]:
                self._hurry(job_id)
            return found if found["status"] in ("completed", "failed") else None

        job: dict[str, Any] = self._until(ended, seconds, f"the end of {job_id}")
        return job

    def run_between_steps(self, job_id: str, others: Collection[str] = ()) -> str:
        """The job's run, as soon as one is at work that has ended a step; none of the `others`."""
        engine = sa.create_engine(self.environment["OFFGRIDFLOW_DAGSTER_DATABASE_URL"], poolclass=sa.NullPool)

        def found() -> str | None:
            with engine.connect() as connection:
                run_ids = connection.scalars(_BETWEEN_STEPS, {"job": job_id.removeprefix("job_")}).all()
            return next((run_id for run_id in run_ids if run_id not in others), None)

        return str(self._until(found, 90, f"a run of {job_id} that has ended a step"))

    def link_mailed_to(self, address: str, template_word: str) -> str:
        """The link in the newest mail to the address whose text holds the word."""

        def found() -> str | None:
            for mail in reversed(self.mail.received):
                text = mail.part("plain")
                if mail.recipients == [address] and template_word in text and (match := _LINK.search(text)):
                    return match[1]
            return None

        return until(found, 30, f"a mail to {address}")

    def _hurry(self, job_id: str) -> None:
        with self.database.admin_engine.begin() as connection:
            connection.execute(
                sa.text("update ogf.jobs set scheduled_at = now() where job_id = cast(:job as uuid)"),
                {"job": job_id.removeprefix("job_")},
            )

    def _until(self, found: Callable[[], Any], seconds: float, what: str) -> Any:
        """As `until`; what did not come is told with the end of the daemon's log."""
        try:
            return until(found, seconds, what)
        except AssertionError as error:
            log = (self.folder / "daemon.log").read_text(encoding="utf-8")[-6000:]
            raise AssertionError(f"{error}. The daemon's log ends:\n{log}") from None

    def _start(self, name: str, program: str, *arguments: str) -> tuple[subprocess.Popen[bytes], IO[str]]:
        log = (self.folder / f"{name}.log").open("a+", encoding="utf-8")
        command = [str(Path(sys.executable).parent / program), *arguments]
        process = subprocess.Popen(
            command, cwd=project_root(), env=self.environment, stdout=log, stderr=log, start_new_session=True
        )
        self._processes[name] = process
        return process, log

    def _ours(self, process: psutil.Process) -> bool:
        return bool((process.info["environ"] or {}).get("DAGSTER_HOME") == self.environment["DAGSTER_HOME"])


def until(found: Callable[[], Any], seconds: float, what: str) -> Any:
    """What `found` gives as soon as it gives something.

    Raises:
        AssertionError: nothing within the seconds.
    """
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with suppress(httpx2.TransportError):
            if (value := found()) is not None:
                return value
        time.sleep(0.25)
    raise AssertionError(f"{what} did not come within {seconds:.0f} s")


def sign_in(page: Page, stack: Stack, email: str, password: str = PASSWORD) -> None:
    """Sign in at the portal; ends on the overview."""
    page.goto(f"{stack.url}/sign-in")
    page.fill("form[action='/sign-in'] [name=email]", email)
    page.fill("form[action='/sign-in'] [name=password]", password)
    page.click("form[action='/sign-in'] button[type=submit]")
    page.wait_for_url(f"{stack.url}/")


@contextmanager
def installation(
    mail: MailServer, receiver: Collector | None = None, *, port: int = 0, variables: Mapping[str, str] | None = None
) -> Iterator[Stack]:
    """An installation with one company, its bills and its owner; nothing runs yet but PostgreSQL.

    `variables` are added to the environment of its processes.
    """
    with cluster_folder() as folder:
        port = port or free_port()
        data = folder / "data"
        stated = {
            "OFFGRIDFLOW_DATA_DIR": str(data),
            "OFFGRIDFLOW_ENVIRONMENT": "development",
            "OFFGRIDFLOW_PUBLIC_URL": f"http://127.0.0.1:{port}",
            "OFFGRIDFLOW_SMTP_URL": mail.url,
            "OFFGRIDFLOW_SMTP_CA_BUNDLE": str(mail.ca_bundle),
            "OFFGRIDFLOW_RUN_SILENT_SECONDS": RUN_SILENT_SECONDS,
            "OFFGRIDFLOW_HISTORY_START": FIRST,
            "OFFGRIDFLOW_METRICS_PORT": "0",
            "OFFGRIDFLOW_TRACE_SAMPLE_RATE": "1",
            **({"OFFGRIDFLOW_OTLP_ENDPOINT": receiver.endpoint} if receiver else {}),
            **(variables or {}),
        }
        settings = Settings(
            _env_file=None, environment="development", data_dir=data, public_url=stated["OFFGRIDFLOW_PUBLIC_URL"],
            smtp_url=SecretStr(mail.url), smtp_ca_bundle=mail.ca_bundle,
        )  # fmt: skip
        database = connect(settings)
        without_durability(database.admin_engine.url)
        environment = {k: v for k, v in prepare(settings).items() if k != "DATABASE_URL"} | stated
        tenant = generate(folder / "bills", months=1).tenants[2]
        stack = Stack(folder, tenant, settings, environment, database, mail, port)
        _people_it(stack)
        try:
            yield stack
        finally:
            stack.stop()


def _people_it(stack: Stack) -> None:
    database, slug = stack.database, stack.tenant.slug
    database.tenants.add(slug, stack.tenant.display_name, lei=stack.tenant.lei, currency=stack.tenant.currency)
    for connection in stack.tenant.connections:
        database.connections.add(slug, connection.id, **to_row(connection))
    sidecar = database.connected_as("ogf_api")
    owner = accounts.add(sidecar, OWNER, "Ada Alder", password=PASSWORD)
    accounts.add_member(sidecar, owner.user_id, slug, "owner")
    with sidecar.tenant(slug) as scope:
        stack.key = api_keys.create(
            sidecar.within(scope), slug, "journey", key_permissions(), creator="system",
            creator_permissions=key_permissions(),
        ).text  # fmt: skip
    sidecar.close()
