-- Erasure of a person (GDPR, article 17): what names them goes, their id stays. Policies still hold each transaction to
-- the person and the tenant that it is of.
grant update (email) on ogf.users to ogf_api;
grant delete on ogf.credentials to ogf_api;
grant delete on ogf.invitations to ogf_api;

-- Every tenant that had an owner keeps one until it is closed: nobody can be made owner of a closed one any more.
create or replace function ogf.keep_an_owner() returns trigger
language plpgsql
as $$
begin
  perform pg_advisory_xact_lock(hashtextextended('owners|' || old.tenant_id, 0));
  if old.role = 'owner' and (tg_op = 'DELETE' or new.role <> 'owner' or new.expires_at is not null) and not exists (
    select from ogf.memberships m join ogf.users u on u.user_id = m.user_id and u.status = 'active'
    where m.tenant_id = old.tenant_id and m.user_id <> old.user_id and m.role = 'owner' and m.expires_at is null
  ) and not exists (select from ogf.tenants t where t.tenant_id = old.tenant_id and t.status = 'closed') then
    raise exception 'the tenant would have no owner left' using errcode = 'integrity_constraint_violation',
      constraint = 'memberships_keep_an_owner';
  end if;
  return case when tg_op = 'DELETE' then old else new end;
end
$$;
