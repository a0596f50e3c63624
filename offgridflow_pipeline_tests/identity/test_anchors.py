"""Anchors: signed roots that an auditor checks offline, and that a rewritten chain no longer fits."""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
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
from offgridflow_pipeline.database.people.audit_log import AnchorLeaf
from offgridflow_pipeline.identity import anchors
from offgridflow_pipeline.identity.audit import Action, record
from offgridflow_pipeline.identity.audit_export import export_lines, verify
from offgridflow_pipeline.identity.chains import ChainFault, event_hash
from offgridflow_pipeline.identity.signing import PublicKeys, SigningKeyError, SigningRing
from offgridflow_pipeline.settings import Settings
from offgridflow_pipeline_tests.counterparts.postgres import settings

RING = SigningRing.of(Settings(_env_file=None, environment="test"))
Anchored = Callable[[], anchors.Made]


@pytest.fixture
def anchor(database: Database) -> Anchored:
    """Makes the anchor of the next day that has none: the database is shared with other tests."""

    def make() -> anchors.Made:
        with database.admin_engine.connect() as connection:
            last = connection.scalar(sa.text("select max(anchor_date) from ogf.audit_anchors"))
        day = max(last or date.min, date(2100, 1, 1)) + timedelta(days=1)
        return anchors.make(database, RING, now=datetime(day.year, day.month, day.day, tzinfo=UTC))

    return make


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
    database: Database, new_tenant: Callable[[], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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
    assert run("export", tenant, "--out", str(file))[0] == 0
    code, output = run("verify", str(file), "--anchors", chosen.audit_anchor_uri)
    assert (code, f"right  {tenant}: 3 events" in output) == (0, True)
    keys = tmp_path / "jwks.json"
    keys.write_text(json.dumps(RING.public.jwks()))
    assert run("verify", "--tenant", tenant, "--keys", str(keys))[0] == 0

    file.write_bytes(file.read_bytes().replace(b"auth:sign_in", b"auth:sign_up", 1))
    code, output = run("verify", str(file))
    assert (code, output) == (1, f"WRONG  {tenant}, event 1: its body or hash was changed.\n")
    assert run("verify")[0] == 2
