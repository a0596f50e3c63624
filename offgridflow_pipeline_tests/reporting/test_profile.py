"""The entity of a report: identifiers that are checked, and fields that are refused."""

from __future__ import annotations

import pytest

from offgridflow_pipeline.reporting.profile import LEI_SCHEME, TENANT_SCHEME, ProfileError, ReportProfile, is_lei
from offgridflow_pipeline_tests.reporting.conftest import LEI


def test_a_lei_with_right_check_digits_identifies_the_entity():
    # ISO 7064 mod 97-10: the number made of the digits, with letters as 10 to 35, leaves 1.
    assert int("".join(str(int(c, 36)) for c in LEI)) % 97 == 1
    profile = ReportProfile("acme", "Acme", lei=LEI)
    assert (profile.entity_scheme, profile.entity_identifier) == (LEI_SCHEME, LEI)


def test_without_a_lei_the_tenant_identifies_the_entity():
    profile = ReportProfile("acme", "Acme")
    assert (profile.entity_scheme, profile.entity_identifier) == (TENANT_SCHEME, "acme")


@pytest.mark.parametrize("text", [LEI[:-1], LEI.lower(), LEI[:-1] + "6", "", LEI + "0", "٥" * 20, " " + LEI[1:]])
def test_a_malformed_lei_is_refused(text):
    assert not is_lei(text)
    with pytest.raises(ProfileError, match="Legal Entity Identifier"):
        ReportProfile("acme", "Acme", lei=text)


@pytest.mark.parametrize(
    ("values", "message"),
    [({"display_name": "  "}, "display_name"), ({"currency": "Euro"}, "ISO 4217"), ({"mass_decimals": 9}, "0 to 6")],
)
def test_a_profile_that_cannot_head_a_report_is_refused(values, message):
    with pytest.raises(ProfileError, match=message):
        ReportProfile(**({"tenant": "acme", "display_name": "Acme"} | values))
