#!/usr/bin/env python3
"""Create Neutron's tables straight from its models (its migrations take minutes): neutron_create_all.py DATABASE_URL

Alembic's heads are stamped, so that neutron-db-manage agrees.
"""
import pathlib
import sys

import sqlalchemy
from neutron.db import migration
from neutron.db.migration import cli  # noqa: F401  (registers options that the models need)
from neutron.db.migration.models import head

if __name__ == "__main__":
    engine = sqlalchemy.create_engine(sys.argv[1])
    head.get_metadata().create_all(engine)
    versions = pathlib.Path(migration.__file__).parent / "alembic_migrations" / "versions"
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text("CREATE TABLE IF NOT EXISTS alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY)"))
        for name in ("CONTRACT_HEAD", "EXPAND_HEAD"):
            connection.execute(sqlalchemy.text("INSERT INTO alembic_version VALUES (:version)"), {"version": (versions / name).read_text().strip()})
