"""Action deduplication."""

from omninode_bridge.infrastructure.postgres import alembic_environment

revision = "008"
down_revision = "007"


def upgrade() -> None:
    """Run 008_*.sql."""
    alembic_environment.run_up(revision)


def downgrade() -> None:
    """Run 008_*.down.sql."""
    alembic_environment.run_down(revision)
