-- Where a tenant's bills and carbon statements come from, and the secrets that are kept here, sealed.
-- Nothing in cloud_connections is secret: a secret is named by secret_ref, or lies encrypted in sealed_secrets.

create table ogf.cloud_connections (
  tenant_id       uuid not null references ogf.tenants,
  connection_id   text not null check (connection_id ~ '^[a-z0-9][a-z0-9_-]{0,62}$'),
  provider        text not null check (provider in ('aws', 'azure', 'gcp', 'https', 'local')),
  kind            text not null check (kind ~ '^[a-z0-9_]+$'),
  role            text not null default 'record' check (role in ('record', 'reconciliation')),
  uri             text not null default '',
  config          jsonb not null default '{}' check (jsonb_typeof(config) = 'object'),
  secret_ref      text check (secret_ref <> ''),
  status          text not null default 'active' check (status in ('active', 'paused', 'failing')),
  last_attempt_at timestamptz,
  last_success_at timestamptz,
  last_error      text,
  created_at      timestamptz not null default clock_timestamp(),
  updated_at      timestamptz not null default clock_timestamp(),
  primary key (tenant_id, connection_id)
);
comment on table ogf.cloud_connections is 'Sources of bills and carbon statements of a tenant.';
comment on column ogf.cloud_connections.connection_id is 'Named by the rows of the lake: unique per tenant.';
comment on column ogf.cloud_connections.provider is 'Whose service is asked: pools and limits go by it.';
comment on column ogf.cloud_connections.role is 'record: its rows are the bill. reconciliation: they only check it.';
comment on column ogf.cloud_connections.config is 'How the source is reached; never a secret.';
comment on column ogf.cloud_connections.secret_ref is 'Where the secret is kept; null = the ambient identity.';
comment on column ogf.cloud_connections.status is 'failing: the last attempt did not succeed; it is still tried.';
comment on column ogf.cloud_connections.last_error is 'Of the last attempt, secrets blacked out; null after a success.';
call ogf.secure('ogf.cloud_connections');

create table ogf.sealed_secrets (
  tenant_id         uuid not null,
  connection_id     text not null,
  key_id            text not null check (key_id ~ '^[a-z0-9][a-z0-9._-]{0,62}$'),
  nonce             bytea not null check (length(nonce) = 12),
  ciphertext        bytea not null check (length(ciphertext) > 16),
  wrapped_key       bytea not null check (length(wrapped_key) = 48),
  wrapped_key_nonce bytea not null check (length(wrapped_key_nonce) = 12),
  created_at        timestamptz not null default clock_timestamp(),
  rotated_at        timestamptz,
  primary key (tenant_id, connection_id),
  foreign key (tenant_id, connection_id) references ogf.cloud_connections on delete cascade
);
comment on table ogf.sealed_secrets is
  'Secrets of connections, AES-256-GCM under a data key of their own; tenant and connection are bound to the text.';
comment on column ogf.sealed_secrets.key_id is 'Key-encryption key of the settings that wraps the data key.';
comment on column ogf.sealed_secrets.wrapped_key is 'The data key, wrapped: 32 bytes and the tag of 16.';
comment on column ogf.sealed_secrets.rotated_at is 'When the data key was last wrapped by another key-encryption key.';
call ogf.secure('ogf.sealed_secrets');

grant select, insert, delete,
  update (provider, kind, role, uri, config, secret_ref, status, last_attempt_at, last_success_at, last_error, updated_at)
  on ogf.cloud_connections to ogf_pipeline;
grant select, insert, delete,
  update (key_id, nonce, ciphertext, wrapped_key, wrapped_key_nonce, rotated_at) on ogf.sealed_secrets to ogf_pipeline;
