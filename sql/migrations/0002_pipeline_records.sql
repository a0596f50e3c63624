-- What the pipeline records: billing objects read, report artefacts, check verdicts, and the serving copy of
-- daily scope totals. tenant_id leads every key: a key across tenants would tell one of another's rows.

create table ogf.source_snapshots (
  tenant_id      uuid not null references ogf.tenants,
  snapshot_id    uuid not null default gen_random_uuid(),
  connection_id  text not null,
  feed           text not null,
  uri            text not null,
  etag           text not null default '',
  sha256         text not null check (sha256 ~ '^[0-9a-f]{64}$'),
  size_bytes     bigint not null check (size_bytes >= 0),
  row_count      bigint not null check (row_count >= 0),
  version        text not null default '',
  billing_period date,
  run_id         text not null,
  retrieved_at   timestamptz not null default clock_timestamp(),
  last_run_id    text not null,
  last_read_at   timestamptz not null default clock_timestamp(),
  primary key (tenant_id, snapshot_id),
  unique (tenant_id, connection_id, sha256, version)
);
comment on table ogf.source_snapshots is 'Every billing object read. Its bytes are kept content-addressed in the lake.';
comment on column ogf.source_snapshots.version is 'Version of the delivery: assembly, execution or content hash.';
comment on column ogf.source_snapshots.billing_period is 'First day of the billing period.';
comment on column ogf.source_snapshots.run_id is 'Run that read it first; last_run_id read the same bytes again.';
create index source_snapshots_newest on ogf.source_snapshots (tenant_id, connection_id, billing_period, last_read_at desc);
call ogf.secure('ogf.source_snapshots');

create table ogf.report_register (
  tenant_id      uuid not null references ogf.tenants,
  period         text not null check (period ~ '^\d{4}(-(0[1-9]|1[0-2]|Q[1-4]|H[12]))?$'),
  kind           text not null check (kind ~ '^[a-z0-9_]+$'),
  edition        int not null check (edition > 0),
  file_name      text not null check (file_name ~ '^[^/\\]+$'),
  sha256         text not null check (sha256 ~ '^[0-9a-f]{64}$'),
  size_bytes     bigint not null check (size_bytes > 0),
  media_type     text not null,
  status         text not null check (status in ('draft', 'published', 'superseded')),
  validation     jsonb,
  factor_set_sha text,
  run_id         text not null,
  created_at     timestamptz not null default clock_timestamp(),
  published_at   timestamptz,
  published_by   text,
  primary key (tenant_id, period, kind, edition),
  check ((status = 'draft') = (published_at is null))
);
comment on table ogf.report_register is 'Report artefacts by SHA-256, in editions; at most one edition is published.';
comment on column ogf.report_register.validation is 'Verdict of the validator: verdict, counts, messages.';
comment on column ogf.report_register.published_by is 'Run that published it.';
create unique index report_register_one_published on ogf.report_register (tenant_id, period, kind)
  where status = 'published';
call ogf.secure('ogf.report_register');

create table ogf.daily_scope_totals (
  tenant_id          uuid not null references ogf.tenants,
  usage_date         date not null,
  scope              text,
  s3_category        smallint,
  provider           text,
  sub_account        text,
  service            text,
  region             text,
  disposition        text not null check (disposition in ('mapped', 'proxied', 'no_emission', 'unmapped')),
  currency           text,
  line_count         bigint not null check (line_count > 0),
  billed_cost        numeric(38, 18) not null,
  kwh                numeric(38, 12),
  co2e_lbm_kg        numeric(38, 12),
  co2e_mbm_kg        numeric(38, 12),
  embodied_kg        numeric(38, 12),
  upstream_energy_kg numeric(38, 12),
  unique nulls not distinct
    (tenant_id, usage_date, scope, s3_category, provider, sub_account, service, region, disposition, currency)
);
comment on table ogf.daily_scope_totals is 'Serving copy of the lake table scope_totals; a measure is null when every line is unmapped.';
comment on column ogf.daily_scope_totals.billed_cost is 'In currency.';
comment on column ogf.daily_scope_totals.kwh is 'Electricity at the site, kWh.';
comment on column ogf.daily_scope_totals.co2e_lbm_kg is 'Use phase, location-based, kgCO2e.';
comment on column ogf.daily_scope_totals.co2e_mbm_kg is 'Use phase, market-based, kgCO2e.';
comment on column ogf.daily_scope_totals.embodied_kg is 'Manufacture of the hardware, kgCO2e.';
comment on column ogf.daily_scope_totals.upstream_energy_kg is 'Fuel supply and grid losses, kgCO2e.';
call ogf.secure('ogf.daily_scope_totals');

create table ogf.check_ledger (
  tenant_id     uuid not null references ogf.tenants,
  entry_id      bigint not null generated always as identity,
  run_id        text not null,
  check_name    text not null,
  partition_key text not null,
  passed        boolean not null,
  severity      text not null check (severity in ('ERROR', 'WARN')),
  finding       text not null default '',
  recorded_at   timestamptz not null default clock_timestamp(),
  primary key (tenant_id, entry_id)
);
comment on table ogf.check_ledger is 'Verdict of every asset check per partition, append-only; what alerts read.';
create index check_ledger_partition on ogf.check_ledger (tenant_id, check_name, partition_key, entry_id desc);
call ogf.secure('ogf.check_ledger');

grant select, insert, update (last_run_id, last_read_at) on ogf.source_snapshots to ogf_pipeline;
grant select, insert, update (status, published_at, published_by) on ogf.report_register to ogf_pipeline;
grant select, insert, delete on ogf.daily_scope_totals to ogf_pipeline;
grant select, insert on ogf.check_ledger to ogf_pipeline;
