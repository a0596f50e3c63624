"""Repositories of a database, each made on first use: the one list of what `Database` offers."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from offgridflow_pipeline.database.engine import Database
    from offgridflow_pipeline.database.idempotency import IdempotencyKeys
    from offgridflow_pipeline.database.money.external_events import ExternalEvents
    from offgridflow_pipeline.database.money.subscriptions import Subscriptions
    from offgridflow_pipeline.database.outbox import Outbox
    from offgridflow_pipeline.database.people.api_keys import ApiKeys
    from offgridflow_pipeline.database.people.audit_log import AuditLog
    from offgridflow_pipeline.database.people.break_glass import BreakGlassGrants
    from offgridflow_pipeline.database.people.credentials import Credentials, SignInFailures
    from offgridflow_pipeline.database.people.erasures import Erasures
    from offgridflow_pipeline.database.people.invitations import Invitations
    from offgridflow_pipeline.database.people.memberships import Memberships
    from offgridflow_pipeline.database.people.password_resets import PasswordResets
    from offgridflow_pipeline.database.people.sessions import Sessions
    from offgridflow_pipeline.database.people.users import Users
    from offgridflow_pipeline.database.pipeline.changes import SourceChanges
    from offgridflow_pipeline.database.pipeline.closures import PeriodClosures, Restatements
    from offgridflow_pipeline.database.pipeline.connections import CloudConnections
    from offgridflow_pipeline.database.pipeline.emissions_reads import EmissionsReads
    from offgridflow_pipeline.database.pipeline.feed_states import DayDigests, FeedStates
    from offgridflow_pipeline.database.pipeline.jobs import Jobs
    from offgridflow_pipeline.database.pipeline.publications import Publications
    from offgridflow_pipeline.database.pipeline.registers import ReportRegister, SourceSnapshots
    from offgridflow_pipeline.database.pipeline.reports import Reports
    from offgridflow_pipeline.database.pipeline.serving import CheckLedger, ScopeTotalsServing
    from offgridflow_pipeline.database.pipeline.uploads import Uploads
    from offgridflow_pipeline.database.rate_buckets import RateBuckets
    from offgridflow_pipeline.database.requests import Requests
    from offgridflow_pipeline.database.signals import Signals
    from offgridflow_pipeline.database.tenants import Tenants


class Repositories:
    """What a `Database` offers; its only subclass is `Database`."""

    @property
    def _database(self) -> Database:
        return cast("Database", self)

    @cached_property
    def requests(self) -> Requests:
        """Transactions that begin with a credential."""
        from offgridflow_pipeline.database.requests import Requests

        return Requests(self._database)

    @cached_property
    def tenants(self) -> Tenants:
        """Organisations that report."""
        from offgridflow_pipeline.database.tenants import Tenants

        return Tenants(self._database)

    @cached_property
    def connections(self) -> CloudConnections:
        """Cloud connections of tenants and their sealed secrets."""
        from offgridflow_pipeline.database.pipeline.connections import CloudConnections

        return CloudConnections(self._database)

    @cached_property
    def source_snapshots(self) -> SourceSnapshots:
        """Billing objects that were read."""
        from offgridflow_pipeline.database.pipeline.registers import SourceSnapshots

        return SourceSnapshots(self._database)

    @cached_property
    def report_register(self) -> ReportRegister:
        """Report artefacts and their editions."""
        from offgridflow_pipeline.database.pipeline.registers import ReportRegister

        return ReportRegister(self._database)

    @cached_property
    def scope_totals(self) -> ScopeTotalsServing:
        """Serving table of daily scope totals."""
        from offgridflow_pipeline.database.pipeline.serving import ScopeTotalsServing

        return ScopeTotalsServing(self._database)

    @cached_property
    def emissions(self) -> EmissionsReads:
        """What the API reads of published emissions, grouped and paged."""
        from offgridflow_pipeline.database.pipeline.emissions_reads import EmissionsReads

        return EmissionsReads(self._database)

    @cached_property
    def check_ledger(self) -> CheckLedger:
        """Verdicts of asset checks."""
        from offgridflow_pipeline.database.pipeline.serving import CheckLedger

        return CheckLedger(self._database)

    @cached_property
    def feed_states(self) -> FeedStates:
        """State of each source as of the last committed read."""
        from offgridflow_pipeline.database.pipeline.feed_states import FeedStates

        return FeedStates(self._database)

    @cached_property
    def day_digests(self) -> DayDigests:
        """What the extract tables hold of every connection and day."""
        from offgridflow_pipeline.database.pipeline.feed_states import DayDigests

        return DayDigests(self._database)

    @cached_property
    def source_changes(self) -> SourceChanges:
        """Days of sources that differ from what was committed."""
        from offgridflow_pipeline.database.pipeline.changes import SourceChanges

        return SourceChanges(self._database)

    @cached_property
    def period_closures(self) -> PeriodClosures:
        """Closed months."""
        from offgridflow_pipeline.database.pipeline.closures import PeriodClosures

        return PeriodClosures(self._database)

    @cached_property
    def restatements(self) -> Restatements:
        """Later changes of closed months."""
        from offgridflow_pipeline.database.pipeline.closures import Restatements

        return Restatements(self._database)

    @cached_property
    def users(self) -> Users:
        """People and their preferences."""
        from offgridflow_pipeline.database.people.users import Users

        return Users(self._database)

    @cached_property
    def credentials(self) -> Credentials:
        """Passwords and second factors."""
        from offgridflow_pipeline.database.people.credentials import Credentials

        return Credentials(self._database)

    @cached_property
    def sign_in_failures(self) -> SignInFailures:
        """Failed sign-ins by address."""
        from offgridflow_pipeline.database.people.credentials import SignInFailures

        return SignInFailures(self._database)

    @cached_property
    def password_resets(self) -> PasswordResets:
        """Requests for a new password."""
        from offgridflow_pipeline.database.people.password_resets import PasswordResets

        return PasswordResets(self._database)

    @cached_property
    def erasures(self) -> Erasures:
        """What is removed when a person is erased."""
        from offgridflow_pipeline.database.people.erasures import Erasures

        return Erasures(self._database)

    @cached_property
    def break_glass(self) -> BreakGlassGrants:
        """Reading rights of platform staff."""
        from offgridflow_pipeline.database.people.break_glass import BreakGlassGrants

        return BreakGlassGrants(self._database)

    @cached_property
    def sessions(self) -> Sessions:
        """Browser sessions."""
        from offgridflow_pipeline.database.people.sessions import Sessions

        return Sessions(self._database)

    @cached_property
    def memberships(self) -> Memberships:
        """Who belongs to a tenant, in which role."""
        from offgridflow_pipeline.database.people.memberships import Memberships

        return Memberships(self._database)

    @cached_property
    def invitations(self) -> Invitations:
        """Invitations into a tenant."""
        from offgridflow_pipeline.database.people.invitations import Invitations

        return Invitations(self._database)

    @cached_property
    def api_keys(self) -> ApiKeys:
        """API keys of machines."""
        from offgridflow_pipeline.database.people.api_keys import ApiKeys

        return ApiKeys(self._database)

    @cached_property
    def audit_log(self) -> AuditLog:
        """The audit chains and their anchors."""
        from offgridflow_pipeline.database.people.audit_log import AuditLog

        return AuditLog(self._database)

    @cached_property
    def jobs(self) -> Jobs:
        """Work asked of the pipeline."""
        from offgridflow_pipeline.database.pipeline.jobs import Jobs

        return Jobs(self._database)

    @cached_property
    def reports(self) -> Reports:
        """Published editions of a period's report."""
        from offgridflow_pipeline.database.pipeline.reports import Reports

        return Reports(self._database)

    @cached_property
    def publications(self) -> Publications:
        """Data versions: what was published, when."""
        from offgridflow_pipeline.database.pipeline.publications import Publications

        return Publications(self._database)

    @cached_property
    def outbox(self) -> Outbox:
        """Mails to send and sent."""
        from offgridflow_pipeline.database.outbox import Outbox

        return Outbox(self._database)

    @cached_property
    def rate_buckets(self) -> RateBuckets:
        """Rate limits counted in PostgreSQL."""
        from offgridflow_pipeline.database.rate_buckets import RateBuckets

        return RateBuckets(self._database)

    @cached_property
    def idempotency(self) -> IdempotencyKeys:
        """Answers kept for repeated requests."""
        from offgridflow_pipeline.database.idempotency import IdempotencyKeys

        return IdempotencyKeys(self._database)

    @cached_property
    def uploads(self) -> Uploads:
        """Uploaded activity files."""
        from offgridflow_pipeline.database.pipeline.uploads import Uploads

        return Uploads(self._database)

    @cached_property
    def signals(self) -> Signals:
        """Heartbeats, and the figures that telemetry exports."""
        from offgridflow_pipeline.database.signals import Signals

        return Signals(self._database)

    @cached_property
    def external_events(self) -> ExternalEvents:
        """Inbox of Stripe's events."""
        from offgridflow_pipeline.database.money.external_events import ExternalEvents

        return ExternalEvents(self._database)

    @cached_property
    def subscriptions(self) -> Subscriptions:
        """Stripe customers, and the plan and billing state of tenants."""
        from offgridflow_pipeline.database.money.subscriptions import Subscriptions

        return Subscriptions(self._database)
