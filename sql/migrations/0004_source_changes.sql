-- What was read of every source and what changed since; closed months and their restatements.
-- A change is written by the survey, requested as a range run by a sensor, and done when that run succeeded; only
-- then the state advances. A change of a closed month is held until its restatement is approved.

create table ogf.feed_states (
  tenant_id     uuid not null references ogf.tenants,
  connection_id text not null,
  unit          text not null check (unit <> ''),
  fingerprint   jsonb not null check (jsonb_typeof(fingerprint) = 'object'),
  observed_at   timestamptz not null,
  run_id        text not null,
  committed_at  timestamptz not null default clock_timestamp(),
  primary key (tenant_id, connection_id, unit)
);
comment on table ogf.feed_states is 'State of each source as of the last committed read; never ahead of the lake.';
comment on column ogf.feed_states.unit is 'Billing period (first day/day after), object or ingestion partition.';
comment on column ogf.feed_states.fingerprint is 'Version, ETags of the objects, and the days the unit bills.';
comment on column ogf.feed_states.observed_at is 'When the source was asked: an older observation never replaces a newer one.';
call ogf.secure('ogf.feed_states');

create table ogf.day_digests (
  tenant_id      uuid not null references ogf.tenants,
  dataset        text not null check (dataset ~ '^[a-z0-9_]+$'),
  connection_id  text not null,
  usage_date     date not null,
  row_count      bigint not null check (row_count >= 0),
  cost_digest    text not null check (cost_digest ~ '^[0-9a-f]{64}$'),
  source_version text not null default '',
  run_id         text not null,
  committed_at   timestamptz not null default clock_timestamp(),
  primary key (tenant_id, dataset, connection_id, usage_date)
);
comment on table ogf.day_digests is 'What the extract tables hold per connection and day; a day never read has no row.';
comment on column ogf.day_digests.dataset is 'Extract table of the lake.';
comment on column ogf.day_digests.cost_digest is 'Sum modulo 2^256 of the SHA-256 of the rows, quantity and money included.';
comment on column ogf.day_digests.run_id is 'Run that committed these rows; an equal re-read does not change it.';
call ogf.secure('ogf.day_digests');

create table ogf.period_closures (
  tenant_id   uuid not null references ogf.tenants,
  month       text not null check (month ~ '^\d{4}-(0[1-9]|1[0-2])$'),
  closed_at   timestamptz not null default clock_timestamp(),
  closed_by   text not null check (closed_by ~ '\S'),
  reopened_at timestamptz,
  reopened_by text check (reopened_by ~ '\S'),
  primary key (tenant_id, month, closed_at),
  check ((reopened_at is null) = (reopened_by is null)),
  check (reopened_at >= closed_at)
);
comment on table ogf.period_closures is 'Closed months: their days change through an approved restatement only.';
create unique index period_closures_one_open on ogf.period_closures (tenant_id, month) where reopened_at is null;
call ogf.secure('ogf.period_closures');

create table ogf.restatements (
  tenant_id      uuid not null references ogf.tenants,
  restatement_id uuid not null default gen_random_uuid(),
  month          text not null check (month ~ '^\d{4}-(0[1-9]|1[0-2])$'),
  connection_id  text not null,
  first_day      date not null check (to_char(first_day, 'YYYY-MM') = month),
  last_day       date not null check (to_char(last_day, 'YYYY-MM') = month),
  reason         text not null,
  detected_at    timestamptz not null default clock_timestamp(),
  status         text not null default 'proposed' check (status in ('proposed', 'approved', 'rejected', 'applied')),
  decided_by     text check (decided_by ~ '\S'),
  decided_at     timestamptz,
  run_id         text,
  primary key (tenant_id, restatement_id),
  check (first_day <= last_day),
  check ((status = 'proposed') = (decided_at is null)),
  check ((decided_at is null) = (decided_by is null)),
  check ((status = 'applied') = (run_id is not null))
);
comment on table ogf.restatements is 'Later changes of closed months, and who decided whether the month takes them in.';
comment on column ogf.restatements.run_id is 'Run that took it into the lake.';
create unique index restatements_one_proposed on ogf.restatements (tenant_id, month, connection_id)
  where status = 'proposed';
call ogf.secure('ogf.restatements');

create table ogf.source_changes (
  tenant_id      uuid not null references ogf.tenants,
  change_id      uuid not null default gen_random_uuid(),
  connection_id  text not null,
  first_day      date not null,
  last_day       date not null,
  reason         text not null check (reason ~ '^[a-z_]+$'),
  version        text not null check (version ~ '^[0-9a-f]{64}$'),
  observed       jsonb not null check (jsonb_typeof(observed) = 'object'),
  observed_at    timestamptz not null,
  detected_at    timestamptz not null default clock_timestamp(),
  status         text not null default 'pending' check (status in ('pending', 'requested', 'done', 'held', 'failed')),
  attempts       int not null default 0 check (attempts >= 0),
  run_key        text,
  requested_at   timestamptz,
  restatement_id uuid,
  run_id         text,
  error          text not null default '',
  settled_at     timestamptz,
  primary key (tenant_id, change_id),
  foreign key (tenant_id, restatement_id) references ogf.restatements (tenant_id, restatement_id),
  check (first_day <= last_day and to_char(first_day, 'YYYY-MM') = to_char(last_day, 'YYYY-MM')),
  check (status <> 'requested' or (run_key is not null and requested_at is not null)),
  check (status <> 'held' or restatement_id is not null),
  check (status not in ('done', 'failed') or settled_at is not null),
  check (status not in ('pending', 'requested') or settled_at is null)
);
comment on table ogf.source_changes is 'Days of a source that differ from what was committed, until a run has read them.';
comment on column ogf.source_changes.version is 'SHA-256 of the fingerprints observed: one version of the days is one change.';
comment on column ogf.source_changes.observed is 'Fingerprint per unit, the state to advance to once the days are committed.';
comment on column ogf.source_changes.settled_at is 'End of the change; of a held one: its restatement was rejected.';
create index source_changes_open on ogf.source_changes (tenant_id, status) where settled_at is null;
create index source_changes_newest on ogf.source_changes (tenant_id, connection_id, first_day, last_day, detected_at desc);
call ogf.secure('ogf.source_changes');

grant select, insert, delete, update (fingerprint, observed_at, run_id, committed_at) on ogf.feed_states to ogf_pipeline;
grant select, insert, delete, update (row_count, cost_digest, source_version, run_id, committed_at) on ogf.day_digests
  to ogf_pipeline;
grant select, insert, update (reopened_at, reopened_by) on ogf.period_closures to ogf_pipeline;
grant select, insert, update (first_day, last_day, reason, detected_at, status, decided_by, decided_at, run_id)
  on ogf.restatements to ogf_pipeline;
grant select, insert,
  update (status, attempts, run_key, requested_at, restatement_id, run_id, error, settled_at)
  on ogf.source_changes to ogf_pipeline;
