"""Effects."""

from omninode_bridge.infrastructure.postgres import alembic_environment

revision = "011"
down_revision = "010"


def upgrade() -> None:
    """Run 011_*.sql."""
    alembic_environment.run_up(revision)


def downgrade() -> None:
    """Run 011_*.down.sql."""
    alembic_environment.run_down(revision)
