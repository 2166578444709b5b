"""The database: connections, transactions, errors, migrations, access policies and pages of rows."""
