-- Jobs: what people and machines ask of the pipeline. The sidecar writes them, a Dagster sensor drains them
-- tenant by tenant (skip locked) and writes progress, result and error back from the runs that they became.

create table ogf.jobs (
  tenant_id    uuid not null references ogf.tenants,
  job_id       uuid not null default gen_random_uuid(),
  type         text not null
    check (type in ('connector_sync', 'connector_test', 'emissions_calculation', 'report_generation')),
  status       text not null default 'pending'
    check (status in ('pending', 'launched', 'running', 'completed', 'failed', 'cancelling', 'cancelled')),
  payload      jsonb not null default '{}' check (jsonb_typeof(payload) = 'object'),
  progress     smallint not null default 0 check (progress between 0 and 100),
  result       jsonb,
  error        text,
  attempts     int not null default 0 check (attempts >= 0),
  max_attempts int not null default 3 check (max_attempts between 1 and 10),
  priority     int not null default 10,
  requested_by text not null,
  traceparent  text check (traceparent ~ '^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$'),
  run_id       text,
  created_at   timestamptz not null default clock_timestamp(),
  updated_at   timestamptz not null default clock_timestamp(),
  scheduled_at timestamptz not null default clock_timestamp(),
  launched_at  timestamptz,
  completed_at timestamptz,
  primary key (tenant_id, job_id),
  check (attempts <= max_attempts),
  check (status not in ('launched', 'running', 'cancelling') or launched_at is not null),
  check ((status in ('completed', 'failed', 'cancelled')) = (completed_at is not null))
);
comment on table ogf.jobs is 'Work asked of the pipeline. Run key of an attempt: job:<job id>:<attempt>.';
comment on column ogf.jobs.requested_by is 'user:<id>, key:<id> or system; who is told when it is done.';
comment on column ogf.jobs.scheduled_at is 'Not before this time: a retry waits longer each time.';
comment on column ogf.jobs.launched_at is 'When the newest attempt was handed to Dagster.';
comment on column ogf.jobs.traceparent is 'W3C trace context of the request that asked.';
create index jobs_open on ogf.jobs (tenant_id, scheduled_at) where completed_at is null;
create index jobs_newest on ogf.jobs (tenant_id, created_at desc, job_id desc);

-- Tenants that have work for the sensor; it then works in the scope of one tenant at a time.
create function ogf.tenants_with_jobs() returns table (slug text)
language plpgsql stable security definer set search_path = ogf, pg_temp
as $$ begin
  return query select distinct t.slug from ogf.jobs j join ogf.tenants t on t.tenant_id = j.tenant_id
    where j.completed_at is null and (j.status <> 'pending' or j.scheduled_at <= clock_timestamp()) order by 1;
end $$;

call ogf.secure('ogf.jobs');
create policy lookup on ogf.jobs for select to ogf_definer using (true);
grant select on ogf.jobs to ogf_definer;
revoke execute on function ogf.tenants_with_jobs() from public;
grant execute on function ogf.tenants_with_jobs() to ogf_pipeline;
grant create on schema ogf to ogf_definer;
alter function ogf.tenants_with_jobs() owner to ogf_definer;
revoke create on schema ogf from ogf_definer;
grant select, insert, update (status, updated_at, completed_at, error) on ogf.jobs to ogf_api;
grant select, insert, update (status, progress, result, error, attempts, run_id, updated_at, scheduled_at, launched_at,
  completed_at) on ogf.jobs to ogf_pipeline;
