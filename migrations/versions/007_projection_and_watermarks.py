"""Projection and watermarks."""

from omninode_bridge.infrastructure.postgres import alembic_environment

revision = "007"
down_revision = "006"


def upgrade() -> None:
    """Run 007_*.sql."""
    alembic_environment.run_up(revision)


def downgrade() -> None:
    """Run 007_*.down.sql."""
    alembic_environment.run_down(revision)
