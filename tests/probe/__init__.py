"""An app for worker processes of the tests: tasks that leave traces."""
