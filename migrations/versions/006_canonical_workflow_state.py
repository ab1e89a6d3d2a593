"""Canonical workflow state."""

from omninode_bridge.infrastructure.postgres import alembic_environment

revision = "006"
down_revision = None


def upgrade() -> None:
    """Run 006_*.sql."""
    alembic_environment.run_up(revision)


def downgrade() -> None:
    """Run 006_*.down.sql."""
    alembic_environment.run_down(revision)
