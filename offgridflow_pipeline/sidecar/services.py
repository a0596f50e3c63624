"""What one sidecar process has open: settings, database, lake, rate limits, keys. Made once by the app factory."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from offgridflow_pipeline.settings import Settings

if TYPE_CHECKING:
    from fastapi import Request

    from offgridflow_pipeline.database.engine import Database
    from offgridflow_pipeline.factors.register import FactorSet
    from offgridflow_pipeline.identity.api_keys import KeyUses
    from offgridflow_pipeline.identity.exchange_tokens import TokenKeys
    from offgridflow_pipeline.identity.rate_limits import RateLimiter
    from offgridflow_pipeline.lake.objects import RawObjects
    from offgridflow_pipeline.lake.tables import Lake
    from offgridflow_pipeline.notifications.delivery import Drainer
    from offgridflow_pipeline.sidecar.answering.lake_reads import LakeReads
    from offgridflow_pipeline.sidecar.readiness import Readiness
    from offgridflow_pipeline.subscriptions.gateway import StripeGateway


@dataclass
class Services:
    """Opened on first use, so that a process pays for what it serves only."""

    settings: Settings
    database: Database

    @cached_property
    def pepper(self) -> bytes:
        """Key of all HMACs of this installation."""
        return self.settings.session_pepper.get_secret_value().encode()

    @cached_property
    def rate_limiter(self) -> RateLimiter:
        """Rate limits, in the store of the settings."""
        from offgridflow_pipeline.identity.rate_limits import rate_limiter

        return rate_limiter(self.settings, self.database)

    @cached_property
    def token_keys(self) -> TokenKeys:
        """Keys of exchange tokens."""
        from offgridflow_pipeline.identity.exchange_tokens import token_keys

        return token_keys(self.settings)

    @cached_property
    def key_uses(self) -> KeyUses:
        """When keys were used, noted sparingly."""
        from offgridflow_pipeline.identity.api_keys import KeyUses

        return KeyUses()

    @cached_property
    def mail(self) -> Drainer:
        """Sends mail behind requests: nudge it when one was committed."""
        from offgridflow_pipeline.notifications.delivery import Drainer

        return Drainer(self.database, self.settings)

    @cached_property
    def lake(self) -> Lake:
        """The Delta lake, read only."""
        from offgridflow_pipeline.lake.tables import Lake

        return Lake(self.settings.lake_root, self.settings.lake_storage_options)

    @cached_property
    def stripe(self) -> StripeGateway:
        """Stripe's API, for who subscribes, pays or leaves."""
        from offgridflow_pipeline.subscriptions.gateway import StripeGateway

        return StripeGateway(self.settings)

    @cached_property
    def readiness(self) -> Readiness:
        """Whether this process can serve."""
        from offgridflow_pipeline.sidecar.readiness import Readiness

        return Readiness(self.settings, self.database)

    @cached_property
    def lake_reads(self) -> LakeReads:
        """Bounded reads of the lake for people who wait."""
        from offgridflow_pipeline.sidecar.answering.lake_reads import LakeReads

        return LakeReads(self.settings)

    @cached_property
    def raw_objects(self) -> RawObjects:
        """Content-addressed objects: artefacts and uploads."""
        from offgridflow_pipeline.lake.objects import RawObjects

        return RawObjects(self.settings.lake_root, self.settings.lake_storage_options)

    @cached_property
    def factor_set(self) -> FactorSet:
        """The pinned factor set."""
        from offgridflow_pipeline.factors.register import load_factor_set

        return load_factor_set()

    @property
    def secure_cookies(self) -> bool:
        """Whether people reach the sidecar over https."""
        return self.settings.public_url.startswith("https://")

    @property
    def second_factor_optional(self) -> bool:
        """Development lets owners in without a second factor; production never does."""
        return self.settings.environment == "development"

    @property
    def session_cookie(self) -> str:
        """Name of the session cookie; the prefix binds it to the host, which browsers allow over https only."""
        return "__Host-ogf_session" if self.secure_cookies else "ogf_session"


def services_of(request: Request) -> Services:
    """The services of the app that serves the request."""
    found: Services = request.app.state.services
    return found
