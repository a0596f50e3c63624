-- What the sidecar needs around a request: rate buckets, answers kept for repeated requests, uploaded files.

create unlogged table ogf.rate_buckets (
  key text primary key,
  tat timestamptz not null
);
comment on table ogf.rate_buckets is 'Generic cell rate algorithm: theoretical arrival time per key. Lost in a crash on purpose.';
grant select, insert, delete, update (tat) on ogf.rate_buckets to ogf_api;

create table ogf.idempotency_keys (
  tenant_id   uuid not null references ogf.tenants,
  principal   text not null,
  route       text not null,
  key         text not null check (length(key) between 1 and 255),
  fingerprint bytea not null check (length(fingerprint) = 32),
  status      smallint not null check (status between 200 and 599),
  headers     jsonb not null check (jsonb_typeof(headers) = 'object'),
  body        bytea not null,
  created_at  timestamptz not null default clock_timestamp(),
  primary key (tenant_id, principal, route, key)
);
comment on table ogf.idempotency_keys is 'Answers of creating requests, replayed for 24 hours; written in the transaction of the creation.';
comment on column ogf.idempotency_keys.body is 'Sealed (AES-256-GCM): an answer may hold a secret, such as a new API key.';
create index idempotency_keys_age on ogf.idempotency_keys (tenant_id, created_at);
call ogf.secure('ogf.idempotency_keys');
-- The update is for row locks alone: old answers are removed without waiting for each other.
grant select, insert, delete, update (created_at) on ogf.idempotency_keys to ogf_api;

create table ogf.uploads (
  tenant_id    uuid not null references ogf.tenants,
  upload_id    uuid not null default gen_random_uuid(),
  kind         text not null check (kind ~ '^[a-z_]+$'),
  file_name    text not null check (file_name ~ '^[^/\\]+$' and length(file_name) <= 200),
  media_type   text not null,
  sha256       text not null check (sha256 ~ '^[0-9a-f]{64}$'),
  size_bytes   bigint not null check (size_bytes > 0),
  row_count    bigint not null check (row_count >= 0),
  state        text not null check (state in ('accepted', 'refused')),
  problems     jsonb not null default '[]' check (jsonb_typeof(problems) = 'array'),
  uploaded_by  text not null,
  created_at   timestamptz not null default clock_timestamp(),
  primary key (tenant_id, upload_id),
  unique (tenant_id, kind, sha256)
);
comment on table ogf.uploads is 'Activity files, kept content-addressed in the lake. Accepted: the form is right; the calculation comes later.';
comment on column ogf.uploads.problems is 'Row, column, message and cure of what is wrong.';
create index uploads_newest on ogf.uploads (tenant_id, created_at desc, upload_id desc);
call ogf.secure('ogf.uploads');
grant select, insert on ogf.uploads to ogf_api;
grant select on ogf.uploads to ogf_pipeline;
