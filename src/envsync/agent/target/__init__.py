"""The end that a version comes to: what a push, a rollback, `gc` or a question does there."""
