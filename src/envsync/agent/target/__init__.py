"""The target's end: what a push, a rollback, `gc` or a query does there."""
