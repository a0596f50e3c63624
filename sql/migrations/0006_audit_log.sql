-- The audit log: one hash chain per tenant, appended in the transaction of the change it tells of.
-- hash = sha256(previous hash || sequence number as int8 || body). The platform's own chain has the nil tenant.

create table ogf.audit_heads (
  tenant_id uuid primary key,
  seq       bigint not null default 0 check (seq >= 0),
  hash      bytea not null default decode(repeat('00', 32), 'hex') check (length(hash) = 32)
);
comment on table ogf.audit_heads is 'Last event of each chain.';

create table ogf.audit_events (
  tenant_id uuid not null,
  seq       bigint not null check (seq > 0),
  at        timestamptz not null default clock_timestamp(),
  body      text not null check (length(body) <= 65536),
  prev_hash bytea not null check (length(prev_hash) = 32),
  hash      bytea not null check (length(hash) = 32),
  action    text not null generated always as (body::jsonb ->> 'action') stored,
  actor     text not null generated always as (
    rtrim((body::jsonb #>> '{actor,type}') || ':' || (body::jsonb #>> '{actor,id}'), ':')) stored,
  primary key (tenant_id, seq)
);
comment on table ogf.audit_events is 'Who did what, when, with which outcome; append-only. The nil tenant is the platform.';
comment on column ogf.audit_events.body is 'Canonical JSON text: sorted keys, no blanks; holds its own time. Ids, no names.';
comment on column ogf.audit_events.action is 'Of the body, to filter by: under row level security no index on an expression is used.';
create index audit_events_action on ogf.audit_events (tenant_id, action, seq);
create index audit_events_actor on ogf.audit_events (tenant_id, actor, seq);

create table ogf.audit_anchors (
  anchor_date date primary key,
  made_at     timestamptz not null default clock_timestamp(),
  body        text not null,
  key_id      text not null,
  signature   bytea not null check (length(signature) = 64)
);
comment on table ogf.audit_anchors is 'Signed Merkle root over the heads of all chains of a day: a rewritten chain no longer fits it.';

create table ogf.audit_anchor_leaves (
  tenant_id   uuid not null,
  anchor_date date not null references ogf.audit_anchors,
  seq         bigint not null check (seq > 0),
  hash        bytea not null check (length(hash) = 32),
  proof       text not null,
  primary key (tenant_id, anchor_date)
);
comment on table ogf.audit_anchor_leaves is 'The head of one chain in an anchor, and the hashes that lead from it to the root.';

create function ogf.refuse_change() returns trigger
language plpgsql
as $$ begin
  raise exception '% is append-only', tg_table_name using errcode = 'integrity_constraint_violation';
end $$;
create trigger append_only before update or delete on ogf.audit_events for each row execute function ogf.refuse_change();
create trigger no_truncate before truncate on ogf.audit_events for each statement execute function ogf.refuse_change();
create trigger append_only before update or delete on ogf.audit_anchors for each row execute function ogf.refuse_change();
create trigger no_truncate before truncate on ogf.audit_anchors for each statement execute function ogf.refuse_change();
create trigger append_only before update or delete on ogf.audit_anchor_leaves
  for each row execute function ogf.refuse_change();
create trigger no_truncate before truncate on ogf.audit_anchor_leaves
  for each statement execute function ogf.refuse_change();

create function ogf.audit_append(body text) returns bigint
language plpgsql security definer set search_path = ogf, pg_temp
as $$
declare
  chain    uuid := ogf.current_tenant();
  previous bytea;
  next_seq bigint;
  digest   bytea;
begin
  if chain is null then
    raise exception 'no tenant: an audit event belongs to a chain';
  end if;
  insert into ogf.audit_heads (tenant_id) values (chain) on conflict do nothing;
  select h.hash, h.seq + 1 into previous, next_seq from ogf.audit_heads h where h.tenant_id = chain for update;
  digest := sha256(previous || int8send(next_seq) || convert_to(body, 'UTF8'));
  insert into ogf.audit_events (tenant_id, seq, body, prev_hash, hash) values (chain, next_seq, body, previous, digest);
  update ogf.audit_heads h set seq = next_seq, hash = digest where h.tenant_id = chain;
  return next_seq;
end
$$;

-- Heads of all chains, for the daily anchor.
create function ogf.audit_chain_heads() returns table (tenant_id uuid, seq bigint, hash bytea)
language plpgsql stable security definer set search_path = ogf, pg_temp
as $$ begin return query select h.tenant_id, h.seq, h.hash from ogf.audit_heads h order by h.tenant_id; end $$;

call ogf.secure('ogf.audit_heads');
call ogf.secure('ogf.audit_events');
call ogf.secure('ogf.audit_anchor_leaves');
create policy append on ogf.audit_heads for all to ogf_definer using (true) with check (true);
create policy append on ogf.audit_events for insert to ogf_definer with check (true);
grant select, insert, update on ogf.audit_heads to ogf_definer;
grant insert on ogf.audit_events to ogf_definer;
revoke execute on function ogf.audit_append(text), ogf.audit_chain_heads() from public;
grant execute on function ogf.audit_append(text) to ogf_api, ogf_pipeline;
grant execute on function ogf.audit_chain_heads() to ogf_pipeline;
grant create on schema ogf to ogf_definer;
alter function ogf.audit_append(text) owner to ogf_definer;
alter function ogf.audit_chain_heads() owner to ogf_definer;
revoke create on schema ogf from ogf_definer;
grant select on ogf.audit_events to ogf_api, ogf_pipeline;
grant select on ogf.audit_heads to ogf_api, ogf_pipeline;
grant select, insert on ogf.audit_anchors, ogf.audit_anchor_leaves to ogf_pipeline;
grant select on ogf.audit_anchors, ogf.audit_anchor_leaves to ogf_api;
