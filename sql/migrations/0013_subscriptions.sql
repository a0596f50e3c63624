-- Subscriptions: the inbox of Stripe's events, what Stripe says of each tenant, and the plan and billing state that
-- follow from it. Events are stored first and never applied: the object they tell of is fetched again.

-- No tenant_id: whose an event is, is known only once its customer was looked up.
create table ogf.external_events (
  source          text not null check (source ~ '^[a-z]+$'),
  external_id     text not null check (length(external_id) between 1 and 255),
  event_type      text not null check (length(event_type) between 1 and 255),
  object_id       text not null default '' check (length(object_id) <= 255),
  customer_id     text not null default '' check (length(customer_id) <= 255),
  api_version     text check (length(api_version) <= 255),
  event_created   timestamptz not null,
  livemode        boolean not null,
  payload         bytea,
  payload_sha256  bytea not null check (length(payload_sha256) = 32),
  state           text not null default 'pending' check (state in ('pending', 'processing', 'done', 'ignored', 'dead')),
  attempts        int not null default 0 check (attempts >= 0),
  next_attempt_at timestamptz not null default clock_timestamp(),
  lease_until     timestamptz,
  last_error      text,
  received_at     timestamptz not null default clock_timestamp(),
  settled_at      timestamptz,
  traceparent     text check (traceparent ~ '^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$'),
  primary key (source, external_id),
  check ((state = 'processing') = (lease_until is not null)),
  check ((state in ('done', 'ignored', 'dead')) = (settled_at is not null))
);
comment on table ogf.external_events is 'Inbox of signed events; the key decides what is a duplicate. Only the sidecar adds, only the pipeline settles.';
comment on column ogf.external_events.customer_id is 'Stripe customer the event tells of; empty where it names none.';
comment on column ogf.external_events.event_created is 'Evidence only: nothing is ordered by it.';
comment on column ogf.external_events.traceparent is 'W3C trace context of the request that brought the event; its run goes on with it.';
comment on column ogf.external_events.payload is 'Body as it was signed; removed some time after the event was settled, its digest stays.';
create index external_events_due on ogf.external_events (source, received_at) where state in ('pending', 'processing');
create index external_events_of_customer on ogf.external_events (source, customer_id) where state in ('pending', 'processing');
create index external_events_settled on ogf.external_events (settled_at) where payload is not null;
create index external_events_dead on ogf.external_events (source) where state = 'dead';
create index external_events_failed_payments on ogf.external_events (source) where event_type = 'invoice.payment_failed';
grant insert (source, external_id, event_type, object_id, customer_id, api_version, event_created, livemode, payload,
  payload_sha256, state, settled_at, traceparent) on ogf.external_events to ogf_api, ogf_pipeline;
grant select, update (payload, state, attempts, next_attempt_at, lease_until, last_error, settled_at)
  on ogf.external_events to ogf_pipeline;

create table ogf.subscriptions (
  tenant_id             uuid primary key references ogf.tenants,
  customer_id           text not null check (length(customer_id) between 1 and 255),
  snapshot              jsonb check (jsonb_typeof(snapshot) = 'object'),
  fetched_at            timestamptz,
  onboarding            text not null default 'none' check (onboarding in ('none', 'due', 'reading', 'reporting', 'done')),
  offboard_requested_at timestamptz,
  stopped_since         timestamptz,
  created_at            timestamptz not null default clock_timestamp(),
  updated_at            timestamptz not null default clock_timestamp(),
  check ((snapshot is null) = (fetched_at is null))
);
create index subscriptions_customers on ogf.subscriptions (customer_id);
comment on table ogf.subscriptions is 'One Stripe customer per tenant, and what Stripe last said of it.';
comment on column ogf.subscriptions.snapshot is 'Customer and subscriptions reduced to what the billing state follows from; no card, no address.';
comment on column ogf.subscriptions.fetched_at is 'When the snapshot was asked for: an older one never replaces a newer.';
comment on column ogf.subscriptions.onboarding is 'First bills and first report of a tenant that has just become a customer.';
comment on column ogf.subscriptions.stopped_since is 'Since when no work goes on: the days from then are read when it goes on again.';

-- What the tenant may do now; read with every request.
alter table ogf.tenant_states no force row level security;
alter table ogf.tenant_states
  add column billing_state text not null default 'active'
    check (billing_state in ('trial', 'active', 'grace', 'restricted', 'suspended', 'offboarded')),
  add column billing_since timestamptz not null default clock_timestamp(),
  alter column plan set default 'free';
update ogf.tenant_states set plan = 'free' where plan not in ('free', 'basic', 'pro', 'enterprise');
alter table ogf.tenant_states
  drop constraint tenant_states_plan_check,
  add constraint tenant_states_plan_check check (plan in ('free', 'basic', 'pro', 'enterprise'));
alter table ogf.tenant_states force row level security;
comment on table ogf.tenant_states is 'What a tenant is now; a missing row is version 0, on the free plan, active.';
comment on column ogf.tenant_states.plan is 'Plan as subscribed; an installation without Stripe ignores it.';
comment on column ogf.tenant_states.billing_since is 'When the billing state began: by Stripe''s own times, not by when we heard of it.';

-- Which tenant a Stripe customer is, and which tenants are customers. No key of the table spans tenants, for it would
-- tell them of each other: of two that name one customer it is the first one's.
create function ogf.tenant_by_customer(wanted text) returns text
language plpgsql stable security definer set search_path = ogf, pg_temp
as $$ begin
  return (select t.slug from ogf.subscriptions s join ogf.tenants t on t.tenant_id = s.tenant_id
           where s.customer_id = wanted order by s.created_at, s.tenant_id limit 1);
end $$;

create function ogf.tenants_with_subscriptions()
returns table (slug text, customer_id text, onboarding text, leaves boolean)
language plpgsql stable security definer set search_path = ogf, pg_temp
as $$ begin
  return query
    select t.slug, s.customer_id, s.onboarding,
           s.offboard_requested_at is not null and coalesce(n.billing_state, 'active') <> 'offboarded'
      from ogf.subscriptions s join ogf.tenants t on t.tenant_id = s.tenant_id
      left join ogf.tenant_states n on n.tenant_id = s.tenant_id
     where t.status <> 'closed' order by 1;
end $$;

-- Figures of billing, of all tenants together. Payments that failed are counted by Stripe's events, which stay for ever.
create function ogf.metric_billing_failures() returns table (total bigint)
language plpgsql stable security definer set search_path = ogf, pg_temp
as $$ begin
  return query select count(*) from ogf.external_events e
    where e.source = 'stripe' and e.event_type = 'invoice.payment_failed';
end $$;

create function ogf.metric_billing_inbox() returns table (state text, depth bigint, oldest_age double precision)
language plpgsql stable security definer set search_path = ogf, pg_temp
as $$ begin
  return query
    select e.state, count(*), coalesce(max(extract(epoch from clock_timestamp() - e.received_at))
             filter (where e.state in ('pending', 'processing')), 0)::double precision
      from ogf.external_events e where e.source = 'stripe' and e.state in ('pending', 'processing', 'dead') group by 1;
end $$;

create function ogf.metric_billing_tenants() returns table (state text, total bigint)
language plpgsql stable security definer set search_path = ogf, pg_temp
as $$ begin
  return query
    select coalesce(s.billing_state, 'active'), count(*)
      from ogf.tenants t left join ogf.tenant_states s on s.tenant_id = t.tenant_id
     where t.status <> 'closed' group by 1;
end $$;

-- Nothing is read, and nothing published, of a tenant whose work has stopped: its data is not late.
create or replace function ogf.metric_freshness() returns table (connector text, age double precision)
language plpgsql stable security definer set search_path = ogf, pg_temp
as $$ begin
  return query
    select c.provider, max(extract(epoch from clock_timestamp() - coalesce(c.last_success_at, c.created_at)))::double precision
      from ogf.cloud_connections c join ogf.tenants t on t.tenant_id = c.tenant_id and t.status = 'active'
      left join ogf.tenant_states s on s.tenant_id = c.tenant_id
     where c.role = 'record' and c.status <> 'paused'
       and coalesce(s.billing_state, 'active') in ('trial', 'active', 'grace') group by 1;
end $$;

create or replace function ogf.metric_publish_age() returns table (age double precision)
language plpgsql stable security definer set search_path = ogf, pg_temp
as $$ begin
  return query
    select coalesce(max(extract(epoch from clock_timestamp() - coalesce(v.published_at, w.since))), 0)::double precision
      from (select c.tenant_id, min(c.created_at) as since from ogf.cloud_connections c
             where c.role = 'record' and c.status <> 'paused' group by 1) w
      join ogf.tenants t on t.tenant_id = w.tenant_id and t.status = 'active'
      left join ogf.tenant_states s on s.tenant_id = w.tenant_id
      left join (select d.tenant_id, max(d.published_at) as published_at from ogf.data_versions d group by 1) v
        on v.tenant_id = w.tenant_id
     where coalesce(s.billing_state, 'active') in ('trial', 'active', 'grace');
end $$;

call ogf.secure('ogf.subscriptions');
create policy lookup on ogf.subscriptions for select to ogf_definer using (true);
grant select (tenant_id, customer_id, onboarding, offboard_requested_at, created_at) on ogf.subscriptions to ogf_definer;
grant select (source, event_type, state, received_at) on ogf.external_events to ogf_definer;
-- The sidecar links a customer before it sends people to Stripe, another one after Stripe has deleted it, and takes an
-- owner's wish to leave.
grant select, insert (tenant_id, customer_id), update (customer_id, offboard_requested_at, updated_at)
  on ogf.subscriptions to ogf_api;
grant select, insert, update (customer_id, snapshot, fetched_at, onboarding, offboard_requested_at, stopped_since, updated_at)
  on ogf.subscriptions to ogf_pipeline;
grant update (billing_state, billing_since) on ogf.tenant_states to ogf_pipeline;

drop function ogf.begin_request(text, bytea);
create function ogf.begin_request(
  wanted_key text, wanted_secret bytea,
  out tenant_id uuid, out slug text, out tenant_name text, out permissions text[], out data_version bigint, out plan text,
  out billing_state text
)
returns setof record
language plpgsql security definer set search_path = ogf, pg_temp
as $$
begin
  perform set_config('offgridflow.user', '', true), set_config('offgridflow.tenant', '', true);
  select k.tenant_id, t.slug, t.display_name, k.permissions, coalesce(s.data_version, 0), coalesce(s.plan, 'free'),
         coalesce(s.billing_state, 'active')
    into tenant_id, slug, tenant_name, permissions, data_version, plan, billing_state
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

drop function ogf.begin_session(bytea, interval);
create function ogf.begin_session(
  wanted bytea,
  idle interval,
  out session_id uuid, out user_id uuid, out email text, out display_name text, out locale text,
  out platform_role text, out second_factor boolean, out stepped_up_at timestamptz, out last_seen_at timestamptz,
  out tenant_id uuid, out slug text, out tenant_name text, out role text, out break_glass boolean,
  out plan text, out billing_state text
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
  select s.plan, s.billing_state into plan, billing_state from ogf.tenant_states s
   where s.tenant_id = begin_session.tenant_id;
  plan := coalesce(plan, 'free');
  billing_state := coalesce(billing_state, 'active');
  perform set_config('offgridflow.user', user_id::text, true),
          set_config('offgridflow.tenant', coalesce(tenant_id::text, ''), true);
  return next;
end
$$;

do $$
declare made regprocedure;
begin
  grant create on schema ogf to ogf_definer;
  foreach made in array array['ogf.begin_request(text, bytea)', 'ogf.begin_session(bytea, interval)',
                              'ogf.tenant_by_customer(text)', 'ogf.tenants_with_subscriptions()',
                              'ogf.metric_billing_failures()', 'ogf.metric_billing_inbox()',
                              'ogf.metric_billing_tenants()']::regprocedure[]
  loop
    execute format('revoke execute on function %s from public', made);
    execute format('alter function %s owner to ogf_definer', made);
  end loop;
  revoke create on schema ogf from ogf_definer;
end
$$;
grant execute on function ogf.begin_request(text, bytea), ogf.begin_session(bytea, interval),
  ogf.metric_billing_failures(), ogf.metric_billing_inbox(), ogf.metric_billing_tenants() to ogf_api;
grant execute on function ogf.tenant_by_customer(text), ogf.tenants_with_subscriptions() to ogf_pipeline;
