"""Timers."""

from omninode_bridge.infrastructure.postgres import alembic_environment

revision = "010"
down_revision = "009"


def upgrade() -> None:
    """Run 010_*.sql."""
    alembic_environment.run_up(revision)


def downgrade() -> None:
    """Run 010_*.down.sql."""
    alembic_environment.run_down(revision)
