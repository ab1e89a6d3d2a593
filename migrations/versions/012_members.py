"""Members."""

from omninode_bridge.infrastructure.postgres import alembic_environment

revision = "012"
down_revision = "011"


def upgrade() -> None:
    """Run 012_*.sql."""
    alembic_environment.run_up(revision)


def downgrade() -> None:
    """Run 012_*.down.sql."""
    alembic_environment.run_down(revision)
