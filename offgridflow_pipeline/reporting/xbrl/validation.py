"""The gate: Arelle in a subprocess reads a report and its log decides, never its exit code.

Options and reading of the log: xbrl.md sections 2.4 and 2.5. The subprocess has a private configuration
folder and no network. Whatever keeps Arelle from judging (absent, timeout, crash, missing package) gives
`not_validated`, never `valid`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from lxml import etree

from offgridflow_pipeline.reporting.artefact import written
from offgridflow_pipeline.reporting.xbrl.markup import NS
from offgridflow_pipeline.reporting.xbrl.profile import TaxonomyProfile, own_profile
from offgridflow_pipeline.reporting.xbrl.taxonomy import taxonomy_package
from offgridflow_pipeline.settings import Settings, load_settings

Verdict = Literal["valid", "invalid", "not_validated"]
OPTIONS = (
    "--workOffline", "--disablePersistentConfig", "-v", "--calc", "c11r", "--utr",
    "--validateDuplicateFacts", "all", "--baseTaxonomyValidation", "none", "--logFileMode", "w",
    "--plugins", "saveLoadableOIM",
)  # fmt: skip
#: Codes that say a file could not be read: a fault of the environment, not of the report.
_ENVIRONMENT_CODES = ("IOerror", "FileNotLoadable", "ix11.12.1.2:missingReferences")
_FAILING_LEVELS = ("error", "critical", "inconsistency", "warning")
_MESSAGES_KEPT = 50


@dataclass(frozen=True)
class ValidationResult:
    """Outcome of one validation.

    Attributes:
        verdict: valid, invalid, or not_validated when nothing could be judged.
        counts: messages per level, for example {"error": 0, "warning": 0, "inconsistency": 0}.
        codes: failing messages per code.
        messages: failing messages, at most fifty.
        fact_count: facts Arelle found, None when it did not get that far.
        seconds: wall time.
        detail: options, Arelle's version and taxonomy, for the record.
    """

    verdict: Verdict
    counts: Mapping[str, int]
    codes: Mapping[str, int]
    messages: Sequence[str]
    fact_count: int | None
    seconds: float
    detail: Mapping[str, Any] = field(default_factory=dict)

    @property
    def valid(self) -> bool:
        """Whether the report may be issued."""
        return self.verdict == "valid"

    def record(self) -> dict[str, Any]:
        """JSON-ready, for metadata and the report register."""
        return {
            "verdict": self.verdict,
            "counts": dict(self.counts),
            "codes": dict(self.codes),
            "messages": list(self.messages),
            "fact_count": self.fact_count,
            "seconds": round(self.seconds, 2),
            **self.detail,
        }


def validate(
    report: Path,
    settings: Settings | None = None,
    *,
    taxonomy: TaxonomyProfile | None = None,
    export: Path | None = None,
    python: str = sys.executable,
) -> ValidationResult:
    """Validate an Inline XBRL or xBRL-XML report offline.

    Args:
        report: the .xhtml or .xbrl file.
        settings: timeout of the subprocess and further taxonomy packages; ours is always given.
        taxonomy: profile the report is tagged with; our own by default.
        export: where to keep the xBRL-JSON that Arelle read from the report, or None.
        python: interpreter that has Arelle.

    Returns:
        The verdict with counts and messages. Never raises for a bad report.
    """
    taxonomy = taxonomy or own_profile()
    settings = settings or load_settings()
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="ogf-xbrl-") as folder:
        home = Path(folder)
        own = home / "ogf-ghg.zip"
        own.write_bytes(taxonomy_package())
        log, exported = home / "log.json", home / "facts.json"
        command = [
            python, "-m", "arelle.CntlrCmdLine", *OPTIONS,
            "--packages", "|".join(str(path.resolve()) for path in (own, *settings.taxonomy_packages)),
            "--file", str(report.resolve()), "--logFile", str(log), "--saveLoadableOIM", str(exported),
        ]  # fmt: skip
        failure = _run(command, home, settings.validation_timeout_seconds)
        detail = {"taxonomy": f"{taxonomy.name} {taxonomy.version}", "options": " ".join(OPTIONS)}
        elapsed = time.monotonic() - started
        if failure is None:
            failure = None if log.is_file() else "Arelle wrote no log."
        if failure is not None:
            return ValidationResult("not_validated", {}, {}, [failure], None, elapsed, detail)
        if export is not None and exported.is_file():
            written(export, exported.read_bytes())
        return _verdict(log, exported, _fact_total(report), taxonomy, elapsed, detail)


def _run(command: Sequence[str], home: Path, timeout_seconds: float) -> str | None:
    """Run Arelle; the reason it could not judge, or None."""
    environment = {key: value for key, value in os.environ.items() if key in ("PATH", "LANG", "LC_ALL", "TMPDIR")}
    environment |= {"XDG_CONFIG_HOME": str(home), "HOME": str(home), "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        finished = subprocess.run(
            command, env=environment, cwd=home, timeout=timeout_seconds, capture_output=True, check=False
        )
    except subprocess.TimeoutExpired:
        return f"Arelle took longer than {timeout_seconds:g} s; raise OFFGRIDFLOW_VALIDATION_TIMEOUT_SECONDS."
    except OSError as error:
        return f"Arelle could not be started: {error}."
    if b"No module named" in finished.stderr:
        return "Arelle is not installed for this interpreter; install arelle-release."
    if finished.returncode < 0:
        return f"Arelle was ended by signal {-finished.returncode}; give the process more memory."
    return None


def _verdict(
    log: Path,
    exported: Path,
    declared: int | None,
    taxonomy: TaxonomyProfile,
    seconds: float,
    detail: Mapping[str, Any],
) -> ValidationResult:
    try:
        entries = json.loads(log.read_text(encoding="utf-8"))["log"]
    except (ValueError, KeyError) as error:
        return ValidationResult(
            "not_validated", {}, {}, [f"Arelle's log is unreadable: {error}."], None, seconds, detail
        )
    levels = Counter(str(entry.get("level", "")).lower() for entry in entries)
    counts = {level: levels.get(level, 0) for level in ("error", "inconsistency", "warning")}
    failing = [
        entry
        for entry in entries
        if str(entry.get("level", "")).lower() in _FAILING_LEVELS
        and not (entry.get("level") == "warning" and entry.get("code") in taxonomy.allowed_warnings)
    ]
    codes = Counter(str(entry.get("code")) for entry in failing)
    messages = [f"{entry.get('code')}: {_message(entry)}" for entry in failing[:_MESSAGES_KEPT]]
    facts = _exported_facts(exported)
    verdict: Verdict = "invalid" if failing else "valid"
    if any(code in _ENVIRONMENT_CODES for code in codes) or not entries:
        verdict = "not_validated"
    elif not failing and (facts is None or facts != declared):
        verdict = "invalid"
        messages = [f"fact count: {declared} facts in the report, {facts} read by the validator."]
    return ValidationResult(verdict, counts, dict(codes), messages, facts, seconds, detail)


def _message(entry: Mapping[str, Any]) -> str:
    message = entry.get("message")
    return str(message.get("text", "") if isinstance(message, Mapping) else message)[:500]


def _exported_facts(path: Path) -> int | None:
    if not path.is_file():
        return None
    return len(json.loads(path.read_text(encoding="utf-8")).get("facts", {}))


def _fact_total(report: Path) -> int | None:
    """Facts the file declares, counted without a validator."""
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False)
    try:
        root = etree.parse(str(report), parser).getroot()
    except (etree.XMLSyntaxError, OSError):
        return None
    inline = sum(1 for _ in root.iter(f"{{{NS['ix']}}}nonFraction", f"{{{NS['ix']}}}nonNumeric"))
    return inline or sum(1 for child in root if child.get("contextRef"))
