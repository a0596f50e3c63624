"""What is new at a source: unchanged sources give no day, a changed one exactly its days, in any order of listing."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import date, timedelta
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from offgridflow_pipeline.connectors.changes.detection import (
    DayRange,
    Detection,
    Fingerprint,
    Reason,
    changed_units,
    covered_units,
    detect,
    fingerprints,
    partition_fingerprints,
    ranges,
)
from offgridflow_pipeline.connectors.deliveries.listing import Delivery
from offgridflow_pipeline.connectors.stores import StoredObject

FIRST, TODAY = date(2026, 1, 1), date(2026, 11, 20)
DAY = timedelta(days=1)


def _delivery(month: int, version: str = "a1", etag: str = "e", parts: int = 2, scope: str = "") -> Delivery:
    start = date(2026, month, 1)
    objects = tuple(StoredObject(f"s3://b/{scope}{start}/{n}.csv.gz", f"{etag}{n}", 1) for n in range(parts))
    return Delivery("billing", "cur", version, start, (start + 32 * DAY).replace(day=1), objects)


def _files(**etags: str) -> Delivery:
    return Delivery("billing", "focus", "", None, None, tuple(StoredObject(k, v, 1) for k, v in etags.items()))


def _detect(old: dict[str, Fingerprint], new: dict[str, Fingerprint], moved: set[date] = frozenset()) -> Detection:
    return detect(old, new, first=FIRST, last=TODAY, moved=moved)


def _days(detection: Detection) -> list[DayRange]:
    return [change.days for change in detection.changes]


def _month(month: int, last: int) -> DayRange:
    return DayRange(date(2026, month, 1), date(2026, month, last))


def _with_days(found: dict[str, Fingerprint], **days: DayRange) -> dict[str, Fingerprint]:
    return found | {unit: replace(found[unit], days=(days[unit],)) for unit in days}


_DELIVERIES = st.lists(
    st.builds(
        _delivery,
        month=st.integers(1, 11),
        version=st.sampled_from(["a1", "a2"]),
        etag=st.sampled_from(["e", "f"]),
        parts=st.integers(0, 3),
    ),
    max_size=8,
    unique_by=lambda d: d.period_start,
)


@given(deliveries=_DELIVERIES, shuffle=st.randoms(use_true_random=False))
def test_any_order_of_deliveries_and_objects_gives_the_same_fingerprints(
    deliveries: list[Delivery], shuffle: random.Random
) -> None:
    shuffled = [
        replace(d, objects=tuple(shuffle.sample(d.objects, len(d.objects))))
        for d in shuffle.sample(deliveries, len(deliveries))
    ]
    assert fingerprints(shuffled) == fingerprints(deliveries)


@given(deliveries=_DELIVERIES)
def test_an_unchanged_source_has_no_day_to_read(deliveries: list[Delivery]) -> None:
    seen = fingerprints(deliveries)
    stored = {unit: Fingerprint.of_document(f.document()) for unit, f in seen.items()}
    assert stored == seen
    assert _detect(stored, seen) == Detection((), {})


@given(before=_DELIVERIES, after=_DELIVERIES)
def test_exactly_the_periods_that_differ_are_read_again_up_to_today(
    before: list[Delivery], after: list[Delivery]
) -> None:
    known = {(d.period_start, d.version, d.objects) for d in before}
    differing = [d for d in after if (d.period_start, d.version, d.objects) not in known]
    expected = {d.period_start + n * DAY for d in differing for n in range((d.period_end - d.period_start).days)}
    found = [day for r in _days(_detect(fingerprints(before), fingerprints(after))) for day in r.days]
    assert found == sorted(day for day in expected if day <= TODAY)


@given(before=_DELIVERIES, after=_DELIVERIES)
def test_once_every_observed_unit_has_advanced_nothing_is_left_to_read(
    before: list[Delivery], after: list[Delivery]
) -> None:
    state, new = fingerprints(before), fingerprints(after)
    detection = _detect(state, new)
    for change in detection.changes:
        state |= change.observed
    state |= detection.settled
    assert _detect(state, new).changes == ()


def test_a_new_manifest_of_one_month_is_that_month_alone() -> None:
    before = fingerprints([_delivery(9), _delivery(10), _delivery(11)])
    after = fingerprints([_delivery(9), _delivery(10, version="a2"), _delivery(11)])
    (change,) = _detect(before, after).changes
    assert (change.days, change.reason) == (_month(10, 31), Reason.NEW_VERSION)
    assert set(change.observed) == {"2026-10-01/2026-11-01"}


def test_a_part_replaced_under_the_same_version_is_found_by_its_etag() -> None:
    change = _detect(fingerprints([_delivery(10)]), fingerprints([_delivery(10, etag="f")])).changes[0]
    assert (change.days, change.reason) == (_month(10, 31), Reason.REPLACED)


def test_the_running_month_ends_today_and_history_begins_where_it_is_told() -> None:
    old_period = Delivery("billing", "cur", "a", date(2025, 12, 1), date(2026, 1, 1), ())
    straddling = Delivery("billing", "cur", "a", date(2025, 12, 15), date(2026, 1, 15), ())
    detection = _detect({}, fingerprints([_delivery(11), old_period, straddling]))
    assert _days(detection) == [_month(1, 14), _month(11, 20)]
    assert set(detection.settled) == {"2025-12-01/2026-01-01"}


def test_deliveries_of_two_scopes_for_one_month_are_one_unit() -> None:
    both = [_delivery(10, scope="one/"), _delivery(10, scope="two/")]
    later = [both[0], _delivery(10, version="a2", scope="two/")]
    assert len(fingerprints(both)) == 1
    assert _days(_detect(fingerprints(both), fingerprints(later))) == [_month(10, 31)]


def test_a_period_that_expired_at_the_source_is_no_change() -> None:
    assert _detect(fingerprints([_delivery(1), _delivery(2)]), fingerprints([_delivery(2)])) == Detection((), {})


def test_a_moved_partition_is_exactly_the_usage_days_it_touched() -> None:
    before = partition_fingerprints({date(2026, 11, n): (f"2026-11-0{n}T09:00:00Z", 10) for n in (1, 2, 3)})
    after = partition_fingerprints({date(2026, 11, n): (f"2026-11-0{n}T09:00:00Z", 10 + (n == 2)) for n in (1, 2, 3)})
    assert changed_units(before, after) == ["2026-11-02"]
    detection = _detect(before, after, moved={date(2026, 10, 30), date(2026, 10, 31), date(2026, 11, 1)})
    october, november = detection.changes
    assert [c.days for c in detection.changes] == [
        DayRange(date(2026, 10, 30), date(2026, 10, 31)),
        DayRange(date(2026, 11, 1), date(2026, 11, 1)),
    ]
    assert october.reason is Reason.MOVED
    assert set(october.observed) == set(november.observed) == {"2026-11-02"}


def test_a_changed_file_is_read_on_its_old_and_its_new_days() -> None:
    before = _with_days(fingerprints([_files(a="1", b="1")]), a=_month(9, 30), b=_month(8, 31))
    after = _with_days(fingerprints([_files(a="2", b="1")]), a=_month(10, 31))
    assert changed_units(before, after) == ["a"]
    assert _days(_detect(before, after)) == [_month(9, 30), _month(10, 31)]


def test_a_file_replaced_under_another_name_is_read_on_the_days_that_are_still_billed() -> None:
    before = _with_days(fingerprints([_files(a="1")]), a=_month(9, 30))
    after = _with_days(fingerprints([_files(b="1")]), b=DayRange(date(2026, 9, 10), date(2026, 9, 12)))
    detection = _detect(before, after)
    assert _days(detection) == [DayRange(date(2026, 9, 10), date(2026, 9, 12))]
    state = before | dict(detection.changes[0].observed)
    assert changed_units(state, after) == []


def test_a_removed_file_that_nothing_replaces_empties_no_day() -> None:
    before = _with_days(fingerprints([_files(a="1", b="1")]), a=_month(9, 30), b=_month(8, 31))
    detection = _detect(before, fingerprints([_files(b="1")]))
    assert detection.changes == ()
    assert changed_units(before | dict(detection.settled), fingerprints([_files(b="1")])) == []


def test_the_version_of_a_change_tells_states_of_the_source_apart_and_nothing_else() -> None:
    def version(etag: str, today: date) -> str:
        return detect({}, fingerprints([_delivery(10, etag=etag)]), first=FIRST, last=today).changes[0].version

    assert version("e", TODAY) == version("e", TODAY + DAY)
    assert version("e", TODAY) != version("f", TODAY)


@given(days=st.sets(st.dates(date(2025, 12, 1), date(2026, 3, 31))), longest=st.sampled_from([1, 7, 31]))
def test_ranges_hold_every_day_once_within_a_month_and_cannot_be_joined(days: set[date], longest: int) -> None:
    found = ranges(days, longest)
    assert [day for r in found for day in r.days] == sorted(days)
    assert all((r.first.year, r.first.month) == (r.last.year, r.last.month) for r in found)
    assert all(len(r.days) <= longest for r in found)
    for one, two in pairwise(found):
        assert two.first > one.last + DAY or two.first.day == 1 or len(one.days) == longest


def test_a_period_is_covered_when_all_its_days_up_to_today_are_committed() -> None:
    seen = fingerprints([_delivery(10), _delivery(11), _files(drop="1")])
    committed = {*_month(10, 31).days[1:], *_month(11, 20).days}
    assert set(covered_units(seen, committed, today=TODAY)) == {"2026-11-01/2026-12-01"}
    committed.add(date(2026, 10, 1))
    assert set(covered_units(seen, committed, today=TODAY)) == {
        "2026-10-01/2026-11-01", "2026-11-01/2026-12-01",
    }  # fmt: skip


def test_a_run_over_the_last_days_of_a_month_does_not_cover_it() -> None:
    window = DayRange(date(2026, 11, 17), TODAY).days
    assert covered_units(fingerprints([_delivery(11)]), window, today=TODAY) == {}


def test_days_asked_of_bigquery_are_no_unit() -> None:
    item = StoredObject("bigquery://p.d.t?days=2026-10-01", "x", 0)
    assert fingerprints([Delivery("b", "gcp_detailed", "x", FIRST, TODAY, (item,))]) == {}
