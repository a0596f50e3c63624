"""Anchors: signed roots that an auditor checks offline, and that a rewritten chain no longer fits."""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime
from hashlib import sha256
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr
from typer.testing import CliRunner

from offgridflow_pipeline import settings as settings_module
from offgridflow_pipeline.cli import audit as audit_cli
from offgridflow_pipeline.database.engine import Database
from offgridflow_pipeline.database.people.audit_log import Anchor, AnchorLeaf
from offgridflow_pipeline.identity import anchors
from offgridflow_pipeline.identity.audit import Action, canonical_json, record
from offgridflow_pipeline.identity.audit_export import PrintedAnchor, export_lines, verify
from offgridflow_pipeline.identity.chains import ChainFault, event_hash
from offgridflow_pipeline.identity.signing import PublicKeys, SigningKeyError, SigningRing
from offgridflow_pipeline.settings import Settings
from offgridflow_pipeline_tests.counterparts.postgres import settings
from offgridflow_pipeline_tests.identity.anchoring import RING, next_anchor

Anchored = Callable[[], anchors.Made]


@pytest.fixture
def anchor(database: Database) -> Anchored:
    return lambda: next_anchor(database)


def _sign_ins(database: Database, tenant: str, count: int) -> None:
    for _ in range(count):
        record(database, tenant, Action.SIGN_IN, actor="user:u")


def _rewritten(database: Database, tenant: str) -> None:
    """The whole chain rewritten by a superuser, so that it fits itself."""
    before = bytes(32)
    tenant_id = database.tenants.get(tenant).tenant_id
    events = database.audit_log.events(tenant, after=0, limit=1000)
    with database.admin_engine.begin() as connection:
        connection.exec_driver_sql("set local session_replication_role = replica")
        for event in events:
            body = event.body.replace("user", "usex")
            digest = event_hash(before, event.seq, body)
            connection.execute(
                sa.text(
                    "update ogf.audit_events set body = :body, prev_hash = :before, hash = :hash"
                    " where tenant_id = :tenant_id and seq = :seq"
                ),
                {"body": body, "before": before, "hash": digest, "tenant_id": tenant_id, "seq": event.seq},
            )
            before = digest
        connection.execute(
            sa.text("update ogf.audit_heads set hash = :hash where tenant_id = :tenant_id"),
            {"hash": before, "tenant_id": tenant_id},
        )


def test_an_auditor_checks_one_tenant_against_the_signed_root_with_a_public_key_alone(
    database: Database, new_tenant: Callable[[], str], anchor: Anchored
) -> None:
    tenant, other = new_tenant(), new_tenant()
    _sign_ins(database, tenant, 3)
    _sign_ins(database, other, 1)
    anchor()
    _sign_ins(database, tenant, 2)
    anchor()
    _sign_ins(database, tenant, 1)
    export = b"".join(export_lines(database, tenant))
    keys = PublicKeys.of_jwks(json.loads(json.dumps(RING.public.jwks())))
    found = verify(export.splitlines(keepends=True), keys)
    assert (found.events, found.anchors, found.anchored_seq) == (6, 2, 5)
    assert str(database.tenants.get(other).tenant_id) not in export.decode()


def test_a_chain_rewritten_to_fit_itself_no_longer_fits_its_anchor(
    database: Database, new_tenant: Callable[[], str], anchor: Anchored
) -> None:
    tenant = new_tenant()
    _sign_ins(database, tenant, 4)
    assert verify(export_lines(database, tenant), RING.public).anchors == 0
    anchor()
    _rewritten(database, tenant)
    with pytest.raises(ChainFault, match="rewritten up to this one") as fault:
        verify(export_lines(database, tenant), RING.public)
    assert (fault.value.tenant, fault.value.seq) == (tenant, 4)


def test_a_chain_that_was_removed_is_missed_by_its_anchor(
    database: Database, new_tenant: Callable[[], str], anchor: Anchored
) -> None:
    tenant = new_tenant()
    _sign_ins(database, tenant, 2)
    anchor()
    with database.admin_engine.begin() as connection:
        connection.exec_driver_sql("set local session_replication_role = replica")
        for table in ("audit_events", "audit_heads"):
            connection.execute(
                sa.text(f"delete from ogf.{table} where tenant_id = :id"),
                {"id": database.tenants.get(tenant).tenant_id},
            )
    lines = list(export_lines(database, tenant))
    with pytest.raises(ChainFault, match="which is missing") as fault:
        verify(lines, RING.public)
    assert fault.value.seq == 2


def test_an_anchor_signed_by_another_key_does_not_hold(
    database: Database, new_tenant: Callable[[], str], anchor: Anchored
) -> None:
    tenant = new_tenant()
    _sign_ins(database, tenant, 1)
    anchor()
    with pytest.raises(ChainFault, match="not among the given ones"):
        verify(export_lines(database, tenant), PublicKeys({}))
    impostor = PublicKeys({"development": _ring("development").public.keys["development"]})
    with pytest.raises(ChainFault, match="signature is not that of its body"):
        verify(export_lines(database, tenant), impostor)


def test_one_anchor_a_day_and_each_holds_the_one_before(database: Database, anchor: Anchored) -> None:
    record(database, "platform", Action.SIGN_IN, actor="system")
    first = anchor()
    again = anchors.make(database, RING, now=datetime.combine(first.anchor.anchor_date, datetime.max.time(), UTC))
    second = anchor()
    assert (first.new, again.new, again.anchor) == (True, False, first.anchor)
    assert anchors.body_of(second.anchor)["previous"] == sha256(first.anchor.body.encode()).hexdigest()


def test_the_newest_anchor_of_a_chain_is_the_last_that_covers_it(
    database: Database, new_tenant: Callable[[], str], anchor: Anchored
) -> None:
    tenant = new_tenant()
    anchor()
    assert database.audit_log.newest_anchor(tenant) is None
    _sign_ins(database, tenant, 2)
    anchor()
    _sign_ins(database, tenant, 1)
    second = anchor()
    found = database.audit_log.newest_anchor(tenant)
    assert found is not None
    assert (found.anchor, found.leaf.head.seq) == (second.anchor, 3)


def test_a_leaf_of_another_chain_or_a_changed_proof_does_not_hold(
    database: Database, new_tenant: Callable[[], str], anchor: Anchored
) -> None:
    tenant = new_tenant()
    _sign_ins(database, tenant, 1)
    _sign_ins(database, new_tenant(), 1)
    anchor()
    (found,) = database.audit_log.anchors(tenant)
    anchors.check(found.anchor, found.leaf, RING.public)
    head = found.leaf.head
    for changed in (
        replace(found.leaf, head=replace(head, tenant_id=uuid.uuid4())),
        replace(found.leaf, head=replace(head, seq=2)),
        replace(found.leaf, head=replace(head, hash=bytes(32))),
        replace(found.leaf, proof="[]"),
        replace(found.leaf, proof="{"),
    ):
        with pytest.raises(anchors.AnchorError):
            anchors.check(found.anchor, changed, RING.public)
    with pytest.raises(anchors.AnchorError, match="another day"):
        anchors.check(replace(found.anchor, anchor_date=date(2001, 1, 1)), found.leaf, RING.public)


def test_a_tenant_reads_its_own_leaves_only(
    database: Database, api_database: Database, new_tenant: Callable[[], str], anchor: Anchored
) -> None:
    tenant, other = new_tenant(), new_tenant()
    _sign_ins(database, tenant, 1)
    _sign_ins(database, other, 2)
    anchor()
    leaves: list[AnchorLeaf] = [found.leaf for found in api_database.audit_log.anchors(tenant)]
    assert {leaf.head.tenant_id for leaf in leaves} == {database.tenants.get(tenant).tenant_id}


@given(st.lists(st.binary(min_size=1, max_size=4), min_size=1, max_size=40))
def test_every_leaf_is_proved_and_no_other(contents: list[bytes]) -> None:
    leaves = [sha256(content).digest() for content in contents]
    root, proofs = anchors.merkle_tree(leaves)
    assert all(anchors.root_of(leaf, proof) == root for leaf, proof in zip(leaves, proofs, strict=True))
    assert all(anchors.root_of(sha256(b"stranger").digest(), proof) != root for proof in proofs)


@given(st.lists(st.binary(max_size=4), min_size=1, max_size=40))
def test_the_root_is_that_of_rfc_6962(contents: list[bytes]) -> None:
    def expected(leaves: list[bytes]) -> bytes:
        """RFC 6962, 2.1: split at the largest power of two below the number of leaves."""
        if len(leaves) == 1:
            return leaves[0]
        split = 1 << ((len(leaves) - 1).bit_length() - 1)
        return sha256(b"\1" + expected(leaves[:split]) + expected(leaves[split:])).digest()

    leaves = [sha256(content).digest() for content in contents]
    assert anchors.merkle_tree(leaves)[0] == expected(leaves)


def test_the_copy_in_write_once_storage_is_written_once(database: Database, anchor: Anchored, tmp_path: Path) -> None:
    record(database, "platform", Action.SIGN_IN, actor="system")
    made = anchor().anchor
    folder = str(tmp_path / "anchors")
    place = anchors.keep(made, folder, {})
    assert anchors.keep(made, folder, {}) == place
    assert anchors.kept(folder, {}) == {made.anchor_date.isoformat(): anchors.document(made)}
    with pytest.raises(anchors.AnchorError, match="find out which is true"):
        anchors.keep(replace(made, body=made.body + " "), folder, {})


def test_an_anchor_that_differs_from_its_copy_does_not_hold(
    database: Database, new_tenant: Callable[[], str], anchor: Anchored
) -> None:
    tenant = new_tenant()
    _sign_ins(database, tenant, 1)
    document = anchors.document(anchor().anchor)
    day = document["date"]
    assert verify(export_lines(database, tenant), RING.public, {day: document}).anchors == 1
    with pytest.raises(ChainFault, match="write-once storage"):
        verify(export_lines(database, tenant), RING.public, {day: {**document, "signature": "00" * 64}})


def _printed(database: Database, tenant: str, anchor: Anchor) -> PrintedAnchor:
    """What a report of the tenant prints when this is the newest anchor."""
    (head,) = (found.leaf.head for found in database.audit_log.anchors(tenant) if found.anchor == anchor)
    return PrintedAnchor(str(anchors.body_of(anchor)["root"]), head.hash.hex())


def test_the_report_of_one_tenant_is_not_proven_by_the_export_of_another(
    database: Database, new_tenant: Callable[[], str], anchor: Anchored
) -> None:
    tenant, other = new_tenant(), new_tenant()
    _sign_ins(database, tenant, 2)
    _sign_ins(database, other, 3)
    printed = _printed(database, tenant, anchor().anchor)
    assert verify(export_lines(database, tenant), RING.public, printed=printed).tenant == tenant
    foreign = list(export_lines(database, other))
    for lines in (foreign, _relabelled(foreign, tenant)):
        assert verify(lines, RING.public).events == 3
        with pytest.raises(ChainFault, match=rf"event 3: .*{printed.event_hash}: the report is of another log\.$"):
            verify(lines, RING.public, printed=printed)


def test_a_report_whose_event_and_root_are_of_two_days_is_not_proven(
    database: Database, new_tenant: Callable[[], str], anchor: Anchored
) -> None:
    tenant = new_tenant()
    _sign_ins(database, tenant, 1)
    earlier = _printed(database, tenant, anchor().anchor)
    _sign_ins(database, tenant, 1)
    later = _printed(database, tenant, anchor().anchor)
    lines = list(export_lines(database, tenant))
    assert verify(lines, RING.public, printed=earlier) == verify(lines, RING.public, printed=later)
    with pytest.raises(ChainFault, match="another log"):
        verify(lines, RING.public, printed=replace(earlier, root=later.root))


def _relabelled(lines: list[bytes], tenant: str) -> list[bytes]:
    """The export under another tenant's name, whole in itself."""
    chain, end = json.loads(lines[0]), json.loads(lines[-1])
    body = [canonical_json({**chain, "tenant": tenant}).encode() + b"\n", *lines[1:-1]]
    return [*body, canonical_json({**end, "sha256": sha256(b"".join(body)).hexdigest()}).encode() + b"\n"]


@pytest.mark.parametrize(
    "options",
    [
        ("x.jsonl", "--root", "", "--event-hash", ""),
        ("x.jsonl", "--root", ""),
        ("x.jsonl", "--event-hash", ""),
        ("x.jsonl", "--root", "a1" * 32),
        ("x.jsonl", "--event-hash", "a1" * 32),
        ("x.jsonl", "--root", "a1" * 32, "--event-hash", ""),
        ("x.jsonl", "--root", "a1" * 6, "--event-hash", "a1" * 32),
        ("--all", "--root", "a1" * 32, "--event-hash", "a1" * 32),
    ],
)
def test_what_a_report_prints_is_given_whole_or_not_at_all(options: tuple[str, ...]) -> None:
    result = CliRunner().invoke(audit_cli.app, ["verify", *options])
    assert (result.exit_code, " together, " in result.output) == (2, True)


def test_an_empty_place_of_kept_anchors_is_no_leave_to_skip_them() -> None:
    result = CliRunner().invoke(audit_cli.app, ["verify", "x.jsonl", "--anchors", ""])
    assert (result.exit_code, "--anchors is empty" in result.output) == (2, True)


def _ring(*names: str, environment: str = "test") -> SigningRing:
    text = ",".join(f"{name}:{base64.b64encode(sha256(f'{name}!'.encode()).digest()).decode()}" for name in names)
    return SigningRing.of(Settings(_env_file=None, environment=environment, signing_keys=SecretStr(text)))


def test_the_first_key_signs_and_the_others_verify() -> None:
    old, both = _ring("a"), _ring("b", "a")
    assert both.current == "b"
    assert both.public.verifies("a", b"m", old.sign(b"m"))
    assert not both.public.verifies("b", b"m", old.sign(b"m"))
    assert not both.public.verifies("c", b"m", old.sign(b"m"))


@pytest.mark.parametrize("text", ["", "a", "a:zz", "A:" + "A" * 44, "a:" + base64.b64encode(bytes(31)).decode()])
def test_signing_keys_of_the_wrong_form_are_refused_without_being_repeated(text: str) -> None:
    with pytest.raises(SigningKeyError, match="OFFGRIDFLOW_SIGNING_KEYS") as refused:
        SigningRing.of(Settings(_env_file=None, environment="test", signing_keys=SecretStr(text)))
    assert len(text) < 5 or text[2:] not in str(refused.value)


def test_production_signs_with_no_key_that_anybody_can_derive() -> None:
    with pytest.raises(SigningKeyError, match="is missing"):
        SigningRing.of(Settings(_env_file=None, environment="production"))


def test_the_command_line_exports_verifies_and_anchors(
    database: Database,
    new_tenant: Callable[[], str],
    anchor: Anchored,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    chosen = settings(tmp_path, database.admin_engine.url).model_copy(
        update={"audit_anchor_uri": str(tmp_path / "anchors")}
    )
    monkeypatch.setattr(settings_module, "load_settings", lambda: chosen)

    def run(*arguments: str) -> tuple[int, str]:
        result = CliRunner().invoke(audit_cli.app, arguments)
        return result.exit_code, result.output

    tenant, file = new_tenant(), tmp_path / "chain.jsonl"
    _sign_ins(database, tenant, 2)
    code, output = run("anchor")
    assert (code, "signed by development" in output) == (0, True)
    printed = _printed(database, tenant, anchor().anchor)
    assert run("export", tenant, "--out", str(file))[0] == 0
    code, output = run("verify", str(file), "--anchors", chosen.audit_anchor_uri)
    assert (code, f"right  {tenant}: 3 events" in output) == (0, True)
    keys = tmp_path / "jwks.json"
    keys.write_text(json.dumps(RING.public.jwks()))
    assert run("verify", "--tenant", tenant, "--keys", str(keys))[0] == 0

    code, output = run("verify", str(file), "--root", printed.root, "--event-hash", printed.event_hash)
    assert (code, output.endswith(", with the anchor of the report\n")) == (0, True)
    code, output = run("verify", "--tenant", tenant, "--root", "00" * 32, "--event-hash", printed.event_hash)
    assert (code, output) == (1, f"WRONG  {tenant}, event 3: no anchor up to this one has the root {'00' * 32}.\n")

    file.write_bytes(file.read_bytes().replace(b"auth:sign_in", b"auth:sign_up", 1))
    code, output = run("verify", str(file))
    assert (code, output) == (1, f"WRONG  {tenant}, event 1: its body or hash was changed.\n")
    assert run("verify")[0] == 2
    code, output = run("verify", "--tenant", "")
    assert (code, "right" in output, "No tenant ''" in output) == (1, False, True)
