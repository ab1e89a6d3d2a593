"""Event log."""

from omninode_bridge.infrastructure.postgres import alembic_environment

revision = "009"
down_revision = "008"


def upgrade() -> None:
    """Run 009_*.sql."""
    alembic_environment.run_up(revision)


def downgrade() -> None:
    """Run 009_*.down.sql."""
    alembic_environment.run_down(revision)
