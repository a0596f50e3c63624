"""What a report says about its entity and its run, beside the figures.

Values come from the tenant's row and the run; the figures come from the inventory. The Legal Entity
Identifier is checked here, because no XBRL processor does it (xbrl.md section 8.2).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

LEI_SCHEME = "http://standards.iso.org/iso/17442"
TENANT_SCHEME = "http://xbrl.offgridflow.example/tenant"

ReportStatus = Literal["provisional", "final", "restated", "superseded"]
Consolidation = Literal["equity_share", "financial_control", "operational_control"]


class ProfileError(ValueError):
    """The profile cannot head a report; the message names the field and the cure."""


@dataclass(frozen=True, slots=True)
class ReportProfile:
    """Entity and run of one report.

    Attributes:
        tenant: tenant slug.
        display_name: name of the entity, any text.
        lei: Legal Entity Identifier, or None when the entity has none.
        currency: ISO 4217 code the tenant reports in.
        status: what the reader may rely on; provisional until the month is closed.
        run_id: run that builds the report.
        factor_set_name: name of the pinned factor set, for example ofg-2026.11.
        gwp_source: assessment reports of the global warming potentials, for example "AR5 and AR6".
        consolidation_approach: organisational boundary, or None when the tenant has not declared it.
        mass_decimals: decimal places of tCO2e and MWh; 3 is a kilogram and a kilowatt-hour.
    """

    tenant: str
    display_name: str
    lei: str | None = None
    currency: str = "EUR"
    status: ReportStatus = "provisional"
    run_id: str = ""
    factor_set_name: str = ""
    gwp_source: str | None = None
    consolidation_approach: Consolidation | None = None
    mass_decimals: int = 3

    def __post_init__(self) -> None:
        if not self.display_name.strip():
            raise ProfileError("display_name is empty; a report needs the name of its entity.")
        if self.lei is not None and not is_lei(self.lei):
            raise ProfileError(
                f"lei {self.lei!r} is not a Legal Entity Identifier (20 characters, ISO 7064 mod 97-10 = 1); "
                "correct it or leave it out."
            )
        if not (len(self.currency) == 3 and self.currency.isascii() and self.currency.isupper()):
            raise ProfileError(f"currency {self.currency!r} is not an ISO 4217 code such as EUR.")
        if not 0 <= self.mass_decimals <= 6:
            raise ProfileError(f"mass_decimals {self.mass_decimals} is outside 0 to 6.")

    @property
    def entity_scheme(self) -> str:
        """Scheme of `entity_identifier` in an XBRL context."""
        return LEI_SCHEME if self.lei else TENANT_SCHEME

    @property
    def entity_identifier(self) -> str:
        """LEI, or the tenant slug where there is none."""
        return self.lei or self.tenant


def is_lei(text: str) -> bool:
    """Whether the text is a well-formed LEI: ISO 17442 length and alphabet, ISO 7064 check digits."""
    if len(text) != 20 or not text.isascii() or not text.isalnum() or text.upper() != text:
        return False
    return int("".join(str(int(character, 36)) for character in text)) % 97 == 1
