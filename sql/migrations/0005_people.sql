-- People: users, credentials, sessions, memberships of tenants, invitations, break-glass grants.
-- A user is a person and may belong to several tenants. Two scopes hold rows apart: the tenant of the transaction
-- (offgridflow.tenant) and its user (offgridflow.user). The sidecar connects as ogf_api.

grant usage on schema ogf to ogf_api;
grant select on ogf.schema_migration to ogf_api;

-- User of the current transaction; null outside of one, and then no credential of anybody is visible.
create function ogf.current_user_id() returns uuid
language sql stable parallel safe
as $$ select nullif(current_setting('offgridflow.user', true), '')::uuid $$;

-- The tables made so far are opened to ogf_api under the same two policies; what it may do, grants decide.
do $$
declare secured record;
begin
  for secured in
    select c.oid::regclass as relation from pg_policy p join pg_class c on c.oid = p.polrelid
    where p.polname = 'application' and c.relnamespace = 'ogf'::regnamespace
  loop
    execute format('alter policy application on %s to ogf_pipeline, ogf_api', secured.relation);
    execute format('alter policy tenant on %s to ogf_pipeline, ogf_api', secured.relation);
  end loop;
end
$$;

create or replace procedure ogf.secure(secured regclass)
language plpgsql
as $$
begin
  execute format('alter table %s enable row level security', secured);
  execute format('alter table %s force row level security', secured);
  execute format(
    'create policy application on %s for all to ogf_pipeline, ogf_api using (true) with check (true)', secured);
  execute format(
    'create policy tenant on %s as restrictive for all to ogf_pipeline, ogf_api
       using (tenant_id = (select ogf.current_tenant()))
       with check (tenant_id = (select ogf.current_tenant()))',
    secured);
end
$$;

-- As ogf.secure, for tables of one user's own rows: only the sidecar reaches them.
create procedure ogf.secure_user(secured regclass)
language plpgsql
as $$
begin
  execute format('alter table %s enable row level security', secured);
  execute format('alter table %s force row level security', secured);
  execute format('create policy application on %s for all to ogf_api using (true) with check (true)', secured);
  execute format(
    'create policy own on %s as restrictive for all to ogf_api
       using (user_id = (select ogf.current_user_id()))
       with check (user_id = (select ogf.current_user_id()))',
    secured);
end
$$;
revoke execute on procedure ogf.secure_user(regclass) from public;

-- The platform's own audit chain and mail go under that name.
alter table ogf.tenants add constraint tenants_slug_reserved check (slug <> 'platform');

create table ogf.users (
  user_id       uuid primary key default gen_random_uuid(),
  email         text not null check (email = lower(email) and email ~ '^[^@\s]+@[^@\s]+$' and length(email) <= 254),
  display_name  text not null check (display_name ~ '\S' and length(display_name) <= 200),
  locale        text not null default 'en' check (locale in ('en', 'de')),
  platform_role text check (platform_role in ('platform_operator', 'platform_engineer')),
  status        text not null default 'active' check (status in ('active', 'disabled')),
  muted_mail    text[] not null default '{}',
  created_at    timestamptz not null default clock_timestamp(),
  updated_at    timestamptz not null default clock_timestamp(),
  constraint users_email_key unique (email)
);
comment on table ogf.users is 'People who sign in. Names and addresses stand here only: other tables hold ids.';
comment on column ogf.users.platform_role is 'Operators of OffGridFlow itself: the Dagster UI, never a tenant''s data.';
comment on column ogf.users.muted_mail is 'Mail templates the person does not want; only those that may be declined.';

create table ogf.credentials (
  user_id             uuid primary key references ogf.users on delete cascade,
  password_hash       text not null check (password_hash ~ '^\$argon2id\$'),
  password_changed_at timestamptz not null default clock_timestamp(),
  totp_pending        jsonb,
  totp_secret         jsonb,
  totp_confirmed_at   timestamptz,
  totp_last_step      bigint,
  check ((totp_secret is null) = (totp_confirmed_at is null))
);
comment on table ogf.credentials is 'Password hash (argon2id) and second factor of a user.';
comment on column ogf.credentials.totp_pending is 'Sealed secret that waits for its first code; the confirmed one stays in force.';
comment on column ogf.credentials.totp_secret is 'Sealed as connection secrets are; never plain.';
comment on column ogf.credentials.totp_last_step is 'Last time step used (RFC 6238): a code works once.';

-- Counted for every address that is tried, whether or not somebody has it: the delay tells nothing.
create table ogf.sign_in_failures (
  address_hmac bytea primary key check (length(address_hmac) = 32),
  failures     int not null check (failures > 0),
  failed_at    timestamptz not null default clock_timestamp()
);
comment on table ogf.sign_in_failures is 'Failed sign-ins since the last success: the delay grows with them. No address stands here.';
create index sign_in_failures_old on ogf.sign_in_failures (failed_at);

create table ogf.recovery_codes (
  user_id   uuid not null references ogf.users on delete cascade,
  code_hash bytea not null check (length(code_hash) = 32),
  used_at   timestamptz,
  primary key (user_id, code_hash)
);
comment on table ogf.recovery_codes is 'Second factor when the device is lost; each code works once.';

create table ogf.password_resets (
  user_id      uuid not null references ogf.users on delete cascade,
  reset_id     uuid not null default gen_random_uuid(),
  token_hash   bytea check (length(token_hash) = 32),
  requested_at timestamptz not null default clock_timestamp(),
  expires_at   timestamptz not null,
  used_at      timestamptz,
  voided_at    timestamptz,
  primary key (user_id, reset_id)
);
comment on table ogf.password_resets is 'Requests for a new password. The token is made when the mail is sent; its hash stands here.';
create index password_resets_recent on ogf.password_resets (user_id, requested_at);
create unique index password_resets_token on ogf.password_resets (token_hash);

create table ogf.sessions (
  user_id       uuid not null references ogf.users on delete cascade,
  session_id    uuid not null default gen_random_uuid(),
  token_hmac    bytea not null check (length(token_hmac) = 32),
  active_tenant uuid references ogf.tenants,
  second_factor boolean not null default false,
  created_at    timestamptz not null default clock_timestamp(),
  last_seen_at  timestamptz not null default clock_timestamp(),
  expires_at    timestamptz not null,
  stepped_up_at timestamptz,
  user_agent    text not null default '' check (length(user_agent) <= 300),
  ip_hash       bytea,
  revoked_at    timestamptz,
  primary key (user_id, session_id)
);
comment on table ogf.sessions is 'Browser sessions. The cookie holds the token; here stands its HMAC-SHA256 under the pepper.';
comment on column ogf.sessions.active_tenant is 'Tenant the person works in; without a membership in it the session has no tenant.';
comment on column ogf.sessions.stepped_up_at is 'When the person proved their identity again: keys, roles, billing and deletion ask for it.';
create unique index sessions_token on ogf.sessions (token_hmac);

create table ogf.memberships (
  tenant_id  uuid not null references ogf.tenants,
  user_id    uuid not null references ogf.users,
  role       text not null
    check (role in ('owner', 'admin', 'engineer', 'analyst', 'auditor', 'billing', 'viewer')),
  expires_at timestamptz,
  granted_by text not null,
  created_at timestamptz not null default clock_timestamp(),
  updated_at timestamptz not null default clock_timestamp(),
  primary key (tenant_id, user_id),
  check (role <> 'auditor' or expires_at is not null)
);
comment on table ogf.memberships is 'Who belongs to a tenant, in which role. An auditor''s membership ends by itself.';
create index memberships_user on ogf.memberships (user_id);

create table ogf.invitations (
  tenant_id             uuid not null references ogf.tenants,
  invitation_id         uuid not null default gen_random_uuid(),
  email                 text not null
    check (email = lower(email) and email ~ '^[^@\s]+@[^@\s]+$' and length(email) <= 254),
  role                  text not null
    check (role in ('owner', 'admin', 'engineer', 'analyst', 'auditor', 'billing', 'viewer')),
  membership_expires_at timestamptz,
  invited_by            text not null,
  created_at            timestamptz not null default clock_timestamp(),
  expires_at            timestamptz not null,
  token_hash            bytea check (length(token_hash) = 32),
  accepted_at           timestamptz,
  accepted_by           uuid references ogf.users,
  revoked_at            timestamptz,
  primary key (tenant_id, invitation_id),
  check (role <> 'auditor' or membership_expires_at is not null),
  check ((accepted_at is null) = (accepted_by is null))
);
comment on table ogf.invitations is 'Invitations into a tenant. The token is made when the mail is sent; its hash stands here.';
create unique index invitations_one_open on ogf.invitations (tenant_id, email)
  where accepted_at is null and revoked_at is null;
create index invitations_token on ogf.invitations (token_hash);

create table ogf.break_glass_grants (
  tenant_id  uuid not null references ogf.tenants,
  grant_id   uuid not null default gen_random_uuid(),
  user_id    uuid not null references ogf.users,
  reason     text not null check (reason ~ '\S'),
  granted_by text not null,
  granted_at timestamptz not null default clock_timestamp(),
  expires_at timestamptz not null check (expires_at > granted_at and expires_at <= granted_at + interval '24 hours'),
  revoked_at timestamptz,
  primary key (tenant_id, grant_id)
);
comment on table ogf.break_glass_grants is 'Reading rights of platform staff in a tenant, for hours, with a reason; in that tenant''s audit log.';

-- Every tenant that had an owner keeps one.
create function ogf.keep_an_owner() returns trigger
language plpgsql
as $$
begin
  perform pg_advisory_xact_lock(hashtextextended('owners|' || old.tenant_id, 0));
  if old.role = 'owner' and (tg_op = 'DELETE' or new.role <> 'owner' or new.expires_at is not null) and not exists (
    select from ogf.memberships m join ogf.users u on u.user_id = m.user_id and u.status = 'active'
    where m.tenant_id = old.tenant_id and m.user_id <> old.user_id and m.role = 'owner' and m.expires_at is null
  ) then
    raise exception 'the tenant would have no owner left' using errcode = 'integrity_constraint_violation',
      constraint = 'memberships_keep_an_owner';
  end if;
  return case when tg_op = 'DELETE' then old else new end;
end
$$;
create trigger keep_an_owner before update or delete on ogf.memberships
  for each row execute function ogf.keep_an_owner();

-- Lookups that begin a request, before any scope is known. They return what the credential proves and no more.
grant select on ogf.users, ogf.sessions, ogf.memberships, ogf.invitations, ogf.password_resets, ogf.break_glass_grants
  to ogf_definer;

create function ogf.user_by_email(wanted text) returns uuid
language plpgsql stable security definer set search_path = ogf, pg_temp
as $$ begin
  return (select u.user_id from ogf.users u where u.email = lower(wanted) and u.status = 'active');
end $$;

-- Who a session token is, and the tenant it works in; sets both scopes of the transaction. No row: sign in again.
create function ogf.begin_session(
  wanted bytea,
  idle interval,
  out session_id uuid, out user_id uuid, out email text, out display_name text, out locale text,
  out platform_role text, out second_factor boolean, out stepped_up_at timestamptz, out last_seen_at timestamptz,
  out tenant_id uuid, out slug text, out tenant_name text, out role text, out break_glass boolean
)
returns setof record
language plpgsql security definer set search_path = ogf, pg_temp
as $$
begin
  perform set_config('offgridflow.user', '', true), set_config('offgridflow.tenant', '', true);
  select s.session_id, u.user_id, u.email, u.display_name, u.locale, u.platform_role, s.second_factor, s.stepped_up_at,
         s.last_seen_at, t.tenant_id, t.slug, t.display_name, m.role, false
    into session_id, user_id, email, display_name, locale, platform_role, second_factor, stepped_up_at,
         last_seen_at, tenant_id, slug, tenant_name, role, break_glass
    from ogf.sessions s
    join ogf.users u on u.user_id = s.user_id and u.status = 'active'
    left join ogf.memberships m on m.tenant_id = s.active_tenant and m.user_id = s.user_id
      and (m.expires_at is null or m.expires_at > now())
    left join ogf.tenants t on t.tenant_id = m.tenant_id and t.status <> 'closed'
   where s.token_hmac = wanted and s.revoked_at is null and s.expires_at > now() and s.last_seen_at > now() - idle;
  if session_id is null then
    return;
  end if;
  if tenant_id is null and platform_role is not null then
    select t.tenant_id, t.slug, t.display_name, 'auditor', true into tenant_id, slug, tenant_name, role, break_glass
      from ogf.sessions s
      join ogf.break_glass_grants g on g.tenant_id = s.active_tenant and g.user_id = s.user_id
        and g.revoked_at is null and g.expires_at > now()
      join ogf.tenants t on t.tenant_id = g.tenant_id and t.status <> 'closed'
     where s.token_hmac = wanted
     limit 1;
  end if;
  if tenant_id is null then
    role := null;
  end if;
  perform set_config('offgridflow.user', user_id::text, true),
          set_config('offgridflow.tenant', coalesce(tenant_id::text, ''), true);
  return next;
end
$$;

-- Tenants of the transaction's user.
create function ogf.my_tenants()
returns table (tenant_id uuid, slug text, display_name text, role text, expires_at timestamptz, break_glass boolean)
language plpgsql stable security definer set search_path = ogf, pg_temp
as $$ begin
  return query
    select t.tenant_id, t.slug, t.display_name, m.role, m.expires_at, false
      from ogf.memberships m join ogf.tenants t on t.tenant_id = m.tenant_id
     where m.user_id = ogf.current_user_id() and t.status <> 'closed' and (m.expires_at is null or m.expires_at > now())
    union all
    select t.tenant_id, t.slug, t.display_name, 'auditor', max(g.expires_at), true
      from ogf.break_glass_grants g join ogf.tenants t on t.tenant_id = g.tenant_id
      join ogf.users u on u.user_id = g.user_id and u.platform_role is not null
     where g.user_id = ogf.current_user_id() and t.status <> 'closed'
       and g.revoked_at is null and g.expires_at > now()
       and not exists (select from ogf.memberships m where m.tenant_id = g.tenant_id and m.user_id = g.user_id
                       and (m.expires_at is null or m.expires_at > now()))
     group by t.tenant_id, t.slug, t.display_name
     order by 2;
end $$;

create function ogf.invitation_by_token(wanted bytea)
returns table (tenant_id uuid, slug text, tenant_name text, invitation_id uuid, email text, role text)
language plpgsql stable security definer set search_path = ogf, pg_temp
as $$ begin
  return query
    select i.tenant_id, t.slug, t.display_name, i.invitation_id, i.email, i.role
      from ogf.invitations i join ogf.tenants t on t.tenant_id = i.tenant_id and t.status = 'active'
     where i.token_hash = wanted and i.accepted_at is null and i.revoked_at is null and i.expires_at > now();
end $$;

create function ogf.reset_by_token(wanted bytea) returns table (user_id uuid, reset_id uuid)
language plpgsql stable security definer set search_path = ogf, pg_temp
as $$ begin
  return query
    select r.user_id, r.reset_id from ogf.password_resets r join ogf.users u on u.user_id = r.user_id
     where r.token_hash = wanted and r.used_at is null and r.voided_at is null and r.expires_at > now()
       and u.status = 'active';
end $$;

-- Every user, for the command line of the operator.
create function ogf.user_directory()
returns table (user_id uuid, email text, display_name text, status text, platform_role text, tenants text[])
language plpgsql stable security definer set search_path = ogf, pg_temp
as $$ begin
  return query
    select u.user_id, u.email, u.display_name, u.status, u.platform_role,
           array(select t.slug || ':' || m.role from ogf.memberships m join ogf.tenants t on t.tenant_id = m.tenant_id
                  where m.user_id = u.user_id order by 1)
      from ogf.users u order by u.email;
end $$;

revoke execute on function ogf.user_by_email(text), ogf.begin_session(bytea, interval), ogf.my_tenants(),
  ogf.invitation_by_token(bytea), ogf.reset_by_token(bytea), ogf.user_directory() from public;
grant execute on function ogf.user_by_email(text), ogf.begin_session(bytea, interval), ogf.my_tenants(),
  ogf.invitation_by_token(bytea), ogf.reset_by_token(bytea), ogf.tenant_by_slug(text) to ogf_api;
grant execute on function ogf.user_directory(), ogf.user_by_email(text) to ogf_pipeline;
grant create on schema ogf to ogf_definer;
alter function ogf.user_by_email(text) owner to ogf_definer;
alter function ogf.begin_session(bytea, interval) owner to ogf_definer;
alter function ogf.my_tenants() owner to ogf_definer;
alter function ogf.invitation_by_token(bytea) owner to ogf_definer;
alter function ogf.reset_by_token(bytea) owner to ogf_definer;
alter function ogf.user_directory() owner to ogf_definer;
revoke create on schema ogf from ogf_definer;

-- A user sees themself; a tenant sees the names and addresses of its members.
alter table ogf.users enable row level security;
alter table ogf.users force row level security;
create policy own on ogf.users for all to ogf_api, ogf_pipeline
  using (user_id = (select ogf.current_user_id())) with check (user_id = (select ogf.current_user_id()));
create policy member on ogf.users for select to ogf_api, ogf_pipeline
  using (exists (select from ogf.memberships m
                 where m.user_id = users.user_id and m.tenant_id = (select ogf.current_tenant())));
create policy lookup on ogf.users for select to ogf_definer using (true);
grant select, insert (user_id, email, display_name, locale), update (display_name, locale, status, muted_mail, updated_at)
  on ogf.users to ogf_api;
-- Platform roles and break-glass grants are given on the operator's command line: the sidecar cannot raise itself.
grant select, update (platform_role, updated_at) on ogf.users to ogf_pipeline;
grant select, insert, delete, update (failures, failed_at) on ogf.sign_in_failures to ogf_api;

call ogf.secure_user('ogf.credentials');
call ogf.secure_user('ogf.recovery_codes');
call ogf.secure_user('ogf.password_resets');
call ogf.secure_user('ogf.sessions');
create policy lookup on ogf.sessions for select to ogf_definer using (true);
create policy lookup on ogf.password_resets for select to ogf_definer using (true);
grant select, insert, update (password_hash, password_changed_at, totp_pending, totp_secret, totp_confirmed_at,
  totp_last_step) on ogf.credentials to ogf_api;
grant select, insert, delete, update (used_at) on ogf.recovery_codes to ogf_api;
grant select, insert, delete, update (token_hash, expires_at, used_at, voided_at) on ogf.password_resets to ogf_api;
grant select, insert, delete, update (token_hmac, active_tenant, second_factor, last_seen_at, stepped_up_at, revoked_at)
  on ogf.sessions to ogf_api;

call ogf.secure('ogf.memberships');
call ogf.secure('ogf.invitations');
call ogf.secure('ogf.break_glass_grants');
create policy lookup on ogf.memberships for select to ogf_definer using (true);
create policy lookup on ogf.invitations for select to ogf_definer using (true);
create policy lookup on ogf.break_glass_grants for select to ogf_definer using (true);
grant select, insert, delete, update (role, expires_at, granted_by, updated_at) on ogf.memberships to ogf_api;
grant select on ogf.memberships to ogf_pipeline;
grant select, insert, update (token_hash, expires_at, accepted_at, accepted_by, revoked_at) on ogf.invitations to ogf_api;
grant select, insert, update (revoked_at) on ogf.break_glass_grants to ogf_pipeline;
grant select on ogf.break_glass_grants to ogf_api;

-- What the sidecar reads and writes of the pipeline's tables.
grant select on ogf.tenants, ogf.source_snapshots, ogf.report_register, ogf.daily_scope_totals, ogf.check_ledger,
  ogf.feed_states, ogf.period_closures, ogf.restatements, ogf.source_changes to ogf_api;
grant update (display_name, lei, currency) on ogf.tenants to ogf_api;
grant select, insert, delete,
  update (provider, kind, role, uri, config, secret_ref, status, last_attempt_at, last_success_at, last_error, updated_at)
  on ogf.cloud_connections to ogf_api;
grant delete on ogf.feed_states, ogf.day_digests to ogf_api;
grant select (tenant_id, connection_id) on ogf.feed_states, ogf.day_digests to ogf_api;
grant update (status, error, settled_at) on ogf.source_changes to ogf_api;
grant select, insert, delete, update (key_id, nonce, ciphertext, wrapped_key, wrapped_key_nonce, rotated_at)
  on ogf.sealed_secrets to ogf_api;
