-- E-mail: written in the transaction of the change it tells of, sent afterwards. The nil tenant is the platform
-- (password resets, sign-in notices: mail to a person, not of a tenant).

create table ogf.email_outbox (
  tenant_id   uuid not null,
  mail_id     uuid not null default gen_random_uuid(),
  template    text not null check (template ~ '^[a-z_]+$'),
  locale      text not null default 'en' check (locale in ('en', 'de')),
  to_addr     text not null check (to_addr ~ '^[^@\s]+@[^@\s]+$'),
  user_id     uuid,
  vars        jsonb not null default '{}' check (jsonb_typeof(vars) = 'object'),
  dedupe_key  text not null check (dedupe_key <> ''),
  state       text not null default 'pending' check (state in ('pending', 'sending', 'sent', 'dead', 'muted')),
  attempts    int not null default 0 check (attempts >= 0),
  last_error  text,
  created_at  timestamptz not null default clock_timestamp(),
  next_at     timestamptz not null default clock_timestamp(),
  sent_at     timestamptz,
  primary key (tenant_id, mail_id),
  unique (tenant_id, dedupe_key)
);
comment on table ogf.email_outbox is 'Mails to send and sent. Message-ID is the mail id; tokens are made at send time and never stand here.';
create index email_outbox_due on ogf.email_outbox (tenant_id, next_at) where state in ('pending', 'sending');

create index email_outbox_settled on ogf.email_outbox (created_at) where state not in ('pending', 'sending');

-- Scopes that have mail to send; the sender then works in the scope of one at a time.
create function ogf.scopes_with_mail() returns table (slug text)
language plpgsql stable security definer set search_path = ogf, pg_temp
as $$ begin
  return query select coalesce(t.slug, 'platform')
    from (select distinct o.tenant_id from ogf.email_outbox o
           where o.state in ('pending', 'sending') and o.next_at <= clock_timestamp()) due
    left join ogf.tenants t on t.tenant_id = due.tenant_id
    order by due.tenant_id;
end $$;

-- Scopes whose settled mails are older than that, for their removal.
create function ogf.scopes_with_old_mail(age interval) returns table (slug text)
language plpgsql stable security definer set search_path = ogf, pg_temp
as $$ begin
  return query select coalesce(t.slug, 'platform')
    from (select distinct o.tenant_id from ogf.email_outbox o
           where o.state not in ('pending', 'sending') and o.created_at < clock_timestamp() - age) old
    left join ogf.tenants t on t.tenant_id = old.tenant_id
    order by old.tenant_id;
end $$;

call ogf.secure('ogf.email_outbox');
create policy lookup on ogf.email_outbox for select to ogf_definer using (true);
grant select on ogf.email_outbox to ogf_definer;
revoke execute on function ogf.scopes_with_mail(), ogf.scopes_with_old_mail(interval) from public;
grant execute on function ogf.scopes_with_mail(), ogf.scopes_with_old_mail(interval) to ogf_api, ogf_pipeline;
grant create on schema ogf to ogf_definer;
alter function ogf.scopes_with_mail() owner to ogf_definer;
alter function ogf.scopes_with_old_mail(interval) owner to ogf_definer;
revoke create on schema ogf from ogf_definer;
grant select, insert, delete, update (state, attempts, last_error, next_at, sent_at) on ogf.email_outbox
  to ogf_api, ogf_pipeline;
