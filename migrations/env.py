"""What `alembic` runs: see README.md."""

import os
from logging.config import fileConfig

from alembic import context

from omninode_bridge.infrastructure.postgres import alembic_environment

if context.config.config_file_name is not None:
    fileConfig(context.config.config_file_name, disable_existing_loggers=False)
alembic_environment.run(os.environ.get("OMNINODE_DATABASE_URL"))
