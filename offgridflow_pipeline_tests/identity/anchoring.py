"""Anchors on demand: each is of the next day that has none, because the database is shared with other tests."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import sqlalchemy as sa

from offgridflow_pipeline.database.engine import Database
from offgridflow_pipeline.identity import anchors
from offgridflow_pipeline.identity.signing import SigningRing
from offgridflow_pipeline.settings import Settings

RING = SigningRing.of(Settings(_env_file=None, environment="test"))


def next_anchor(database: Database) -> anchors.Made:
    with database.admin_engine.connect() as connection:
        last = connection.scalar(sa.text("select max(anchor_date) from ogf.audit_anchors"))
    day = max(last or date.min, date(2100, 1, 1)) + timedelta(days=1)
    return anchors.make(database, RING, now=datetime(day.year, day.month, day.day, tzinfo=UTC))
