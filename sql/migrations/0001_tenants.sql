-- Tenants, and the tenant scope that every later table uses (service reference, 4.2 and 4.3).
-- Applied as ogf_owner. Every table with tenant_id is secured by ogf.secure; a catalog check proves it.

-- Tenant of the current transaction; null outside of one, and then no row of any tenant is visible.
create function ogf.current_tenant() returns uuid
language sql stable parallel safe
as $$ select nullif(current_setting('offgridflow.tenant', true), '')::uuid $$;

-- The permissive policy opens the table to the application, the restrictive one decides: a second
-- permissive policy added by mistake cannot widen it.
create procedure ogf.secure(secured regclass)
language plpgsql
as $$
begin
  execute format('alter table %s enable row level security', secured);
  execute format('alter table %s force row level security', secured);
  execute format('create policy application on %s for all to ogf_pipeline using (true) with check (true)', secured);
  execute format(
    'create policy tenant on %s as restrictive for all to ogf_pipeline
       using (tenant_id = (select ogf.current_tenant()))
       with check (tenant_id = (select ogf.current_tenant()))',
    secured);
end
$$;
revoke execute on procedure ogf.secure(regclass) from public;

create table ogf.tenants (
  tenant_id    uuid primary key default gen_random_uuid(),
  slug         text not null unique check (slug ~ '^[a-z0-9](-?[a-z0-9]){1,62}$'),
  display_name text not null check (display_name ~ '\S'),
  lei          text check (lei ~ '^[A-Z0-9]{18}[0-9]{2}$'),
  currency     text not null check (currency ~ '^[A-Z]{3}$'),
  status       text not null default 'active' check (status in ('active', 'suspended', 'closed')),
  created_at   timestamptz not null default clock_timestamp(),
  updated_at   timestamptz not null default clock_timestamp()
);
comment on table ogf.tenants is 'Organisations that report.';
comment on column ogf.tenants.slug is 'Names lake paths and partitions: immutable, never reused.';
comment on column ogf.tenants.lei is 'Legal entity identifier, ISO 17442.';
comment on column ogf.tenants.currency is 'Reporting currency, ISO 4217.';

create function ogf.keep_tenant_identity() returns trigger
language plpgsql
as $$
begin
  if tg_op = 'DELETE' then
    raise exception 'tenant % is closed, not deleted: its slug is never reused', old.slug
      using errcode = 'integrity_constraint_violation';
  end if;
  if (new.tenant_id, new.slug) is distinct from (old.tenant_id, old.slug) then
    raise exception 'the identity of tenant % is immutable', old.slug using errcode = 'integrity_constraint_violation';
  end if;
  new.updated_at := clock_timestamp();
  return new;
end
$$;
create trigger keep_tenant_identity before update or delete on ogf.tenants
  for each row execute function ogf.keep_tenant_identity();

-- Work across tenants (which tenants exist, which id a slug has) goes through these functions alone.
-- They belong to ogf_definer, which may read this table and nothing else.
grant usage on schema ogf to ogf_definer;
grant select on ogf.tenants to ogf_definer;
create policy lookup on ogf.tenants for select to ogf_definer using (true);

create function ogf.tenant_by_slug(wanted text) returns setof ogf.tenants
language sql stable security definer set search_path = ogf, pg_temp
as $$ select * from ogf.tenants where slug = wanted $$;

create function ogf.tenant_directory() returns setof ogf.tenants
language sql stable security definer set search_path = ogf, pg_temp
as $$ select * from ogf.tenants order by slug $$;

revoke execute on function ogf.tenant_by_slug(text), ogf.tenant_directory() from public;
grant execute on function ogf.tenant_by_slug(text), ogf.tenant_directory() to ogf_pipeline;
grant create on schema ogf to ogf_definer;
alter function ogf.tenant_by_slug(text) owner to ogf_definer;
alter function ogf.tenant_directory() owner to ogf_definer;
revoke create on schema ogf from ogf_definer;

grant select, insert, update (display_name, lei, currency, status) on ogf.tenants to ogf_pipeline;

-- Last: with row_security off, functions that read a secured table cannot be created.
call ogf.secure('ogf.tenants');
