"""${message}."""

from omninode_bridge.infrastructure.postgres import alembic_environment

revision = "${up_revision}"
down_revision = "${down_revision}"


def upgrade() -> None:
    """Run ${up_revision}_*.sql."""
    alembic_environment.run_up(revision)


def downgrade() -> None:
    """Run ${up_revision}_*.down.sql."""
    alembic_environment.run_down(revision)
