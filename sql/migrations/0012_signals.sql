-- Signals: what telemetry counts. Heartbeats and the length of Dagster's queue, the ledger of connector syncs, results
-- of audit verification, entries through the gate; and the functions that turn ledgers into figures.
-- A figure names no tenant: it is a count, an age or the value of the worst tenant.

create table ogf.heartbeats (
  name    text primary key check (name ~ '^[a-z_]+$'),
  beat_at timestamptz not null default clock_timestamp()
);
comment on table ogf.heartbeats is 'Last tick of a daemon''s sensor: a silent one is a dead one.';
grant select, insert, update (beat_at) on ogf.heartbeats to ogf_pipeline;
grant select on ogf.heartbeats to ogf_api;

create table ogf.run_heartbeats (
  run_id  text primary key,
  beat_at timestamptz not null default clock_timestamp()
);
comment on table ogf.run_heartbeats is 'Last sign of life of each run''s process, Dagster''s run ids; rows of runs that ended mean nothing and are removed after a day.';
create index run_heartbeats_old on ogf.run_heartbeats (beat_at);
grant select, insert, delete, update (beat_at) on ogf.run_heartbeats to ogf_pipeline;

create table ogf.run_states (
  state     text primary key check (state in ('queued', 'active')),
  runs      bigint not null check (runs >= 0),
  oldest_at timestamptz,
  seen_at   timestamptz not null default clock_timestamp()
);
comment on table ogf.run_states is 'Runs of the Dagster instance by state, as the heartbeat sensor saw them: its database is another one.';
comment on column ogf.run_states.oldest_at is 'When the oldest of these runs was created.';
grant select, insert, update (runs, oldest_at, seen_at) on ogf.run_states to ogf_pipeline;

create table ogf.audit_verifications (
  verified_at   timestamptz primary key default clock_timestamp(),
  chains        bigint not null check (chains >= 0),
  broken_chains bigint not null check (broken_chains between 0 and chains)
);
comment on table ogf.audit_verifications is 'Results of the nightly verification of every audit chain.';
grant select, insert on ogf.audit_verifications to ogf_pipeline;

create table ogf.sync_ledger (
  tenant_id     uuid not null references ogf.tenants,
  entry_id      bigint not null generated always as identity,
  connection_id text not null,
  provider      text not null,
  outcome       text not null check (outcome in ('success', 'failure')),
  at            timestamptz not null default clock_timestamp(),
  primary key (tenant_id, entry_id)
);
comment on table ogf.sync_ledger is 'Every attempt to read a connection, append-only.';
create index sync_ledger_counted on ogf.sync_ledger (tenant_id, provider, outcome);
call ogf.secure('ogf.sync_ledger');
grant select, insert on ogf.sync_ledger to ogf_pipeline;
grant select on ogf.sync_ledger to ogf_api;

create table ogf.gate_entries (
  user_id      uuid not null references ogf.users on delete cascade,
  session_id   uuid not null,
  mode         text not null check (mode in ('read-only', 'read-write')),
  entered_hour timestamptz not null default date_trunc('hour', clock_timestamp(), 'UTC'),
  primary key (user_id, session_id, mode, entered_hour)
);
comment on table ogf.gate_entries is 'Entries into the Dagster UI, one per session, mode and hour: each is one event of the platform''s audit chain.';
call ogf.secure_user('ogf.gate_entries');
grant select, insert, delete on ogf.gate_entries to ogf_api;

-- Figures read ledgers of all tenants: only through these functions, which belong to ogf_definer.
create index check_ledger_failed on ogf.check_ledger (tenant_id, check_name, severity) where not passed;
create policy lookup on ogf.sync_ledger for select to ogf_definer using (true);
create policy lookup on ogf.check_ledger for select to ogf_definer using (true);
create policy lookup on ogf.cloud_connections for select to ogf_definer using (true);
create policy lookup on ogf.daily_scope_totals for select to ogf_definer using (true);
create policy lookup on ogf.data_versions for select to ogf_definer using (true);
create policy lookup on ogf.report_register for select to ogf_definer using (true);
grant select on ogf.sync_ledger, ogf.check_ledger, ogf.heartbeats, ogf.run_states, ogf.audit_verifications,
  ogf.schema_migration to ogf_definer;
grant select (tenant_id, provider, role, status, created_at, last_success_at) on ogf.cloud_connections to ogf_definer;
grant select (tenant_id, usage_date, provider, disposition, currency, line_count, billed_cost)
  on ogf.daily_scope_totals to ogf_definer;
grant select (tenant_id, published_at) on ogf.data_versions to ogf_definer;
grant select (tenant_id, period, kind, edition, created_at) on ogf.report_register to ogf_definer;

-- Jobs that are due and runs that Dagster has queued; runs at work; age of the oldest that waits.
create function ogf.metric_runs() returns table (queued bigint, active bigint, oldest_queued_age double precision)
language plpgsql stable security definer set search_path = ogf, pg_temp
as $$ begin
  return query
    with waiting as (
      select j.scheduled_at from ogf.jobs j where j.status = 'pending' and j.scheduled_at <= clock_timestamp()
    ), seen as (
      select coalesce(sum(s.runs) filter (where s.state = 'queued'), 0) as queued_runs,
             coalesce(sum(s.runs) filter (where s.state = 'active'), 0) as active_runs,
             min(s.oldest_at) filter (where s.state = 'queued') as oldest
        from ogf.run_states s
    )
    select (select count(*) from waiting) + seen.queued_runs::bigint, seen.active_runs::bigint,
           coalesce(extract(epoch from clock_timestamp() - least((select min(w.scheduled_at) from waiting w),
                                                                 seen.oldest))::double precision, 0)
      from seen;
end $$;

-- Seconds since the daemon's sensor last ticked; an installation whose daemon never ran counts from its beginning.
create function ogf.metric_heartbeat() returns table (age double precision)
language plpgsql stable security definer set search_path = ogf, pg_temp
as $$ begin
  return query select extract(epoch from clock_timestamp() - coalesce(
    (select h.beat_at from ogf.heartbeats h where h.name = 'daemon'),
    (select min(m.applied_at) from ogf.schema_migration m)))::double precision;
end $$;

create function ogf.metric_syncs() returns table (connector text, outcome text, total bigint)
language plpgsql stable security definer set search_path = ogf, pg_temp
as $$ begin
  return query select s.provider, s.outcome, count(*) from ogf.sync_ledger s group by 1, 2;
end $$;

-- Seconds since the last successful read, of the connection that waits longest, per provider.
create function ogf.metric_freshness() returns table (connector text, age double precision)
language plpgsql stable security definer set search_path = ogf, pg_temp
as $$ begin
  return query
    select c.provider, max(extract(epoch from clock_timestamp() - coalesce(c.last_success_at, c.created_at)))::double precision
      from ogf.cloud_connections c join ogf.tenants t on t.tenant_id = c.tenant_id and t.status = 'active'
     where c.role = 'record' and c.status <> 'paused' group by 1;
end $$;

create function ogf.metric_failed_checks() returns table (check_name text, severity text, total bigint)
language plpgsql stable security definer set search_path = ogf, pg_temp
as $$ begin
  return query
    select l.check_name, lower(l.severity), count(*) from ogf.check_ledger l where not l.passed group by 1, 2;
end $$;

-- Seconds since the last publication, of the tenant that waits longest; tenants without a connection do not wait.
create function ogf.metric_publish_age() returns table (age double precision)
language plpgsql stable security definer set search_path = ogf, pg_temp
as $$ begin
  return query
    select coalesce(max(extract(epoch from clock_timestamp() - coalesce(v.published_at, w.since))), 0)::double precision
      from (select c.tenant_id, min(c.created_at) as since from ogf.cloud_connections c
             where c.role = 'record' and c.status <> 'paused' group by 1) w
      join ogf.tenants t on t.tenant_id = w.tenant_id and t.status = 'active'
      left join (select d.tenant_id, max(d.published_at) as published_at from ogf.data_versions d group by 1) v
        on v.tenant_id = w.tenant_id;
end $$;

-- Of the last 35 days: lines served, lines without an emission factor, and the share of usage cost that has emissions
-- (0 to 1) of the worst tenant and currency, as costs of several currencies do not add up.
create function ogf.metric_emissions()
returns table (provider text, line_count bigint, unmatched bigint, coverage double precision)
language plpgsql stable security definer set search_path = ogf, pg_temp
as $$ begin
  return query
    select b.source, sum(b.lines)::bigint, sum(b.unmapped)::bigint,
           coalesce(min(b.covered_cost / b.usage_cost) filter (where b.usage_cost > 0), 1)::double precision
      from (
        select d.tenant_id, case when d.provider in ('aws', 'azure', 'gcp') then d.provider else 'other' end as source,
               d.currency, sum(d.line_count) as lines,
               coalesce(sum(d.line_count) filter (where d.disposition = 'unmapped'), 0) as unmapped,
               sum(d.billed_cost) filter (where d.disposition <> 'no_emission') as usage_cost,
               coalesce(sum(d.billed_cost) filter (where d.disposition in ('mapped', 'proxied')), 0) as covered_cost
          from ogf.daily_scope_totals d where d.usage_date > current_date - 35 group by 1, 2, 3
      ) b group by 1;
end $$;

-- Artefacts by format and verdict, and report jobs that failed. The verdict is the first within two hours: a count
-- that moved from one outcome to another later would look like a reset.
create function ogf.metric_reports() returns table (format text, outcome text, total bigint)
language plpgsql stable security definer set search_path = ogf, pg_temp
as $$ begin
  return query
    with verdicts as (
      select substr(r.kind, 8) as name, r.kind in ('report_ixbrl', 'report_xbrl') as is_validated, r.created_at,
             (select l.passed from ogf.check_ledger l
               where l.tenant_id = r.tenant_id and l.check_name = r.kind || '.valid'
                 and l.partition_key = r.period || '-01|' || t.slug
                 and l.recorded_at between r.created_at and r.created_at + interval '2 hours'
               order by l.entry_id limit 1) as passed
        from ogf.report_register r join ogf.tenants t on t.tenant_id = r.tenant_id
       where r.kind like 'report\_%'
    )
    select v.name, case when v.passed then 'valid' when not v.passed then 'invalid' else 'not_validated' end, count(*)
      from verdicts v
     where v.passed is not null or not v.is_validated or v.created_at < clock_timestamp() - interval '2 hours'
     group by 1, 2
    union all
    select 'report', 'failed', count(*) from ogf.jobs j where j.type = 'report_generation' and j.status = 'failed';
end $$;

-- Seconds from request to end of report jobs: how many took at most each of the bounds, their number and sum.
create function ogf.metric_report_durations(bounds double precision[])
returns table (outcome text, within bigint[], total bigint, seconds double precision)
language plpgsql stable security definer set search_path = ogf, pg_temp
as $$ begin
  return query
    with ended as (
      select j.status as job_status, extract(epoch from j.completed_at - j.created_at)::double precision as took
        from ogf.jobs j where j.type = 'report_generation' and j.status in ('completed', 'failed')
    )
    select e.job_status,
           array(select (select count(*) from ended i where i.job_status = e.job_status and i.took <= b.bound)
                   from unnest(bounds) with ordinality as b (bound, place) order by b.place),
           count(*), sum(e.took)
      from ended e group by 1;
end $$;

create function ogf.metric_outbox() returns table (state text, depth bigint, oldest_age double precision)
language plpgsql stable security definer set search_path = ogf, pg_temp
as $$ begin
  return query
    select o.state, count(*), coalesce(max(extract(epoch from clock_timestamp() - o.created_at))
             filter (where o.state in ('pending', 'sending')), 0)::double precision
      from ogf.email_outbox o where o.state in ('pending', 'sending', 'dead') group by 1;
end $$;

-- Whether the newest verification found every audit chain whole and is at most 50 hours old.
create function ogf.metric_audit() returns table (whole boolean)
language plpgsql stable security definer set search_path = ogf, pg_temp
as $$ begin
  return query
    select coalesce((select v.broken_chains = 0 from ogf.audit_verifications v order by v.verified_at desc limit 1), true)
       and coalesce((select max(v.verified_at) from ogf.audit_verifications v),
                    (select min(m.applied_at) from ogf.schema_migration m)) > clock_timestamp() - interval '50 hours';
end $$;

do $$
declare figure regprocedure;
begin
  grant create on schema ogf to ogf_definer;
  for figure in
    select p.oid from pg_proc p where p.pronamespace = 'ogf'::regnamespace and p.proname like 'metric\_%'
  loop
    execute format('revoke execute on function %s from public', figure);
    execute format('grant execute on function %s to ogf_api', figure);
    execute format('alter function %s owner to ogf_definer', figure);
  end loop;
  revoke create on schema ogf from ogf_definer;
end
$$;
