-- Reports: editions of a period's artefacts as one thing that is reviewed, approved and issued.

create table ogf.reports (
  tenant_id     uuid not null references ogf.tenants,
  report_id     uuid not null default gen_random_uuid(),
  period        text not null check (period ~ '^\d{4}(-(0[1-9]|1[0-2]|Q[1-4]|H[12]))?$'),
  edition       int not null check (edition > 0),
  state         text not null default 'draft' check (state in ('draft', 'reviewed', 'approved', 'issued', 'superseded')),
  prepared_by   text not null check (prepared_by ~ '^(user|key|run):.'),
  run_id        text not null,
  published_at  timestamptz not null default clock_timestamp(),
  reviewed_by   text,
  reviewed_at   timestamptz,
  approved_by   text,
  approved_at   timestamptz,
  issued_by     text,
  issued_at     timestamptz,
  superseded_by uuid,
  primary key (tenant_id, report_id),
  unique (tenant_id, period, edition),
  foreign key (tenant_id, superseded_by) references ogf.reports,
  constraint reports_second_person check (approved_by is distinct from prepared_by or approved_by is null),
  check ((reviewed_at is null) = (reviewed_by is null)),
  check ((approved_at is null) = (approved_by is null)),
  check ((issued_at is null) = (issued_by is null)),
  check (approved_at is null or reviewed_at is not null),
  check (issued_at is null or approved_at is not null),
  check (state <> 'reviewed' or reviewed_at is not null),
  check (state <> 'approved' or approved_at is not null),
  check (state <> 'issued' or issued_at is not null),
  check ((state = 'superseded') = (superseded_by is not null))
);
comment on table ogf.reports is 'Published editions of a period''s report; the newest is current.';
comment on column ogf.reports.prepared_by is 'user:<id>, key:<id> or run:<id>: never the one who approves.';
comment on column ogf.reports.superseded_by is 'The edition that took its place; this one stays as it was issued.';

-- draft -> reviewed -> approved -> issued, and from each of them superseded. What was decided is never rewritten.
create function ogf.keep_report_states() returns trigger
language plpgsql
as $$
begin
  if (new.tenant_id, new.report_id, new.period, new.edition, new.prepared_by, new.run_id, new.published_at)
     is distinct from
     (old.tenant_id, old.report_id, old.period, old.edition, old.prepared_by, old.run_id, old.published_at) then
    raise exception 'what a report is does not change: publish a new edition'
      using errcode = 'integrity_constraint_violation', constraint = 'reports_identity';
  end if;
  if new.state <> old.state and (old.state, new.state) not in (
    ('draft', 'reviewed'), ('reviewed', 'approved'), ('approved', 'issued'), ('draft', 'superseded'),
    ('reviewed', 'superseded'), ('approved', 'superseded'), ('issued', 'superseded')
  ) then
    raise exception 'a report that is % cannot become %', old.state, new.state
      using errcode = 'integrity_constraint_violation', constraint = 'reports_states';
  end if;
  if (old.reviewed_at is not null and (new.reviewed_by, new.reviewed_at) is distinct from (old.reviewed_by, old.reviewed_at))
     or (old.approved_at is not null and (new.approved_by, new.approved_at) is distinct from (old.approved_by, old.approved_at))
     or (old.issued_at is not null and (new.issued_by, new.issued_at) is distinct from (old.issued_by, old.issued_at))
     or (old.superseded_by is not null and new.superseded_by is distinct from old.superseded_by) then
    raise exception 'what was decided about a report is not rewritten'
      using errcode = 'integrity_constraint_violation', constraint = 'reports_decisions';
  end if;
  return new;
end
$$;
create trigger keep_report_states before update on ogf.reports
  for each row execute function ogf.keep_report_states();

create table ogf.report_artefacts (
  tenant_id        uuid not null,
  report_id        uuid not null,
  period           text not null,
  kind             text not null,
  artefact_edition int not null,
  primary key (tenant_id, report_id, kind),
  foreign key (tenant_id, report_id) references ogf.reports,
  foreign key (tenant_id, period, kind, artefact_edition) references ogf.report_register (tenant_id, period, kind, edition)
);
comment on table ogf.report_artefacts is 'The artefacts of a report.';

call ogf.secure('ogf.reports');
call ogf.secure('ogf.report_artefacts');
grant select, insert, update (state, superseded_by) on ogf.reports to ogf_pipeline;
grant select,
  update (state, reviewed_by, reviewed_at, approved_by, approved_at, issued_by, issued_at, superseded_by)
  on ogf.reports to ogf_api;
grant select, insert on ogf.report_artefacts to ogf_pipeline;
grant select on ogf.report_artefacts to ogf_api;

-- The verdict of the validator comes after the artefact was listed.
grant update (validation) on ogf.report_register to ogf_pipeline;
