-- API keys of machines, and the state of a tenant that every answer depends on.

create table ogf.tenant_states (
  tenant_id    uuid primary key references ogf.tenants,
  data_version bigint not null default 0 check (data_version >= 0),
  plan         text not null default 'standard' check (plan ~ '^[a-z0-9_]+$')
);
comment on table ogf.tenant_states is 'One row per tenant that published; a missing row is version 0 on the standard plan.';
comment on column ogf.tenant_states.data_version is 'Grows with every publication: ETags of reads are made of it.';
comment on column ogf.tenant_states.plan is 'Names the limits of the tenant.';

create table ogf.data_versions (
  tenant_id      uuid not null references ogf.tenants,
  data_version   bigint not null check (data_version > 0),
  published_at   timestamptz not null default clock_timestamp(),
  what           text not null check (what ~ '^[a-z_]+$'),
  lake_versions  jsonb not null default '{}' check (jsonb_typeof(lake_versions) = 'object'),
  run_id         text not null,
  primary key (tenant_id, data_version)
);
comment on table ogf.data_versions is 'Publications: what each data version was made of, so that it can be read as reported.';
comment on column ogf.data_versions.lake_versions is 'Delta version of each dataset read.';

create table ogf.api_keys (
  tenant_id     uuid not null references ogf.tenants,
  key_id        text not null check (key_id ~ '^[A-Za-z0-9]{10}$'),
  secret_sha256 bytea not null check (length(secret_sha256) = 32),
  name          text not null check (name ~ '\S' and length(name) <= 100),
  permissions   text[] not null check (cardinality(permissions) > 0),
  created_by    text not null,
  created_at    timestamptz not null default clock_timestamp(),
  expires_at    timestamptz not null,
  last_used_at  timestamptz,
  revoked_at    timestamptz,
  revoked_by    text,
  primary key (tenant_id, key_id)
);
comment on table ogf.api_keys is 'Keys of machines: ogf_live_<key id>_<secret>_<checksum>; only the hash of the secret stands here.';
create index api_keys_lookup on ogf.api_keys (key_id);

-- Who an API key is; sets the tenant of the transaction. No row: the key is unknown, revoked or expired.
create function ogf.begin_request(
  wanted_key text, wanted_secret bytea,
  out tenant_id uuid, out slug text, out tenant_name text, out permissions text[], out data_version bigint, out plan text
)
returns setof record
language plpgsql security definer set search_path = ogf, pg_temp
as $$
begin
  perform set_config('offgridflow.user', '', true), set_config('offgridflow.tenant', '', true);
  select k.tenant_id, t.slug, t.display_name, k.permissions, coalesce(s.data_version, 0), coalesce(s.plan, 'standard')
    into tenant_id, slug, tenant_name, permissions, data_version, plan
    from ogf.api_keys k
    join ogf.tenants t on t.tenant_id = k.tenant_id and t.status <> 'closed'
    left join ogf.tenant_states s on s.tenant_id = k.tenant_id
   where k.key_id = wanted_key and k.secret_sha256 = wanted_secret and k.revoked_at is null and k.expires_at > now();
  if tenant_id is null then
    return;
  end if;
  perform set_config('offgridflow.tenant', tenant_id::text, true);
  return next;
end
$$;

call ogf.secure('ogf.tenant_states');
call ogf.secure('ogf.data_versions');
call ogf.secure('ogf.api_keys');
create policy lookup on ogf.tenant_states for select to ogf_definer using (true);
create policy lookup on ogf.api_keys for select to ogf_definer using (true);
grant select on ogf.tenant_states, ogf.api_keys to ogf_definer;
revoke execute on function ogf.begin_request(text, bytea) from public;
grant execute on function ogf.begin_request(text, bytea) to ogf_api;
grant create on schema ogf to ogf_definer;
alter function ogf.begin_request(text, bytea) owner to ogf_definer;
revoke create on schema ogf from ogf_definer;
grant select, insert, update (data_version, plan) on ogf.tenant_states to ogf_pipeline;
grant select on ogf.tenant_states to ogf_api;
grant select, insert on ogf.data_versions to ogf_pipeline;
grant select on ogf.data_versions to ogf_api;
grant select, insert, update (last_used_at, revoked_at, revoked_by) on ogf.api_keys to ogf_api;
-- The pipeline tells people that a key is about to end; it never sees what a secret hashes to.
grant select (tenant_id, key_id, name, permissions, created_by, created_at, expires_at, last_used_at, revoked_at, revoked_by)
  on ogf.api_keys to ogf_pipeline;
