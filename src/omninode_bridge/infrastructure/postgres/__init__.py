"""PostgreSQL: connections, our own server, migrations, named statements."""
