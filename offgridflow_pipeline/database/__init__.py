"""PostgreSQL: the embedded server, roles, migrations, tenant scope, and repositories with all SQL.

`engine.connect` is the door. Nothing outside this package and `sql/` writes SQL for PostgreSQL; the lake
is another room. Roles and policies follow the service reference, sections 4.2 and 4.3.
"""
